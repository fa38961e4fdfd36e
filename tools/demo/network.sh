#!/bin/sh
# A network interface through a frontend and a backend process: two namespaces ping each other, a file crosses by HTTP, the backend is killed under
# a TCP stream, and figures beside a veth pair. The second half of `make demo`, as root.
#
#   here: tap <- netback == rings, grants == netfront <- tap, in a namespace
set -eu

causeway=$1
seconds=${DEMO_SECONDS:-2}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP PIPE

# Runs inside the pair, with $CAUSEWAY_TAP_BACK_0, $CAUSEWAY_TAP_FRONT_0 and $CAUSEWAY_NETNS_0.
cat >"$work/inside.sh" <<'INSIDE'
set -eu
work=$1
here=198.18.0.1
there=198.18.0.2
server=""
cleanup() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; }
trap cleanup EXIT
trap 'exit 130' INT TERM HUP PIPE
# A server in the frontend's namespace, once it listens on the port.
serve() { # PORT COMMAND…
    port=$1
    shift
    ip netns exec "$CAUSEWAY_NETNS_0" "$@" >"$work/server.log" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        ip netns exec "$CAUSEWAY_NETNS_0" ss -tln | grep -q ":$port " && return
        sleep 0.05
    done
    cat "$work/server.log" >&2
    exit 1
}
stop() { kill "$server"; wait "$server" 2>/dev/null || true; server=""; }

echo "== the store, as Xen's own xenstore-ls sees it"
xenstore-ls -f /local/domain | grep -E '/(state|mac|[rt]x-ring-ref|event-channel-[rt]x|ctrl-ring-ref|feature-[a-z0-9-]*|request-[a-z-]*) =' | head -40

ip addr add "$here/24" dev "$CAUSEWAY_TAP_BACK_0"
ip -n "$CAUSEWAY_NETNS_0" addr add "$there/24" dev "$CAUSEWAY_TAP_FRONT_0"
echo "== pings from here, $CAUSEWAY_TAP_BACK_0, to $CAUSEWAY_TAP_FRONT_0 in the namespace $CAUSEWAY_NETNS_0, small and of 65507 bytes"
ping -c 3 -i 0.2 "$there"
ping -q -c 3 -i 0.2 -s 65507 "$there"

echo "== a file of 256 MiB by HTTP"
mkdir "$work/www"
head -c 256M /dev/urandom >"$work/www/file"
serve 8000 python3 -m http.server --directory "$work/www" --bind "$there" 8000
python3 - "http://$there:8000/file" "$work/got" <<'PY'
import shutil, sys, time, urllib.request
start = time.monotonic()
with urllib.request.urlopen(sys.argv[1], timeout=60) as source, open(sys.argv[2], "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
print("read and written in %.2f s" % (time.monotonic() - start))
PY
cmp "$work/www/file" "$work/got"
echo "== it came as it is"
stop

echo "== the backend is killed (kill -9) 1.5 s into a TCP stream of 4 s"
serve 5201 iperf3 -s
# The pair's child whose command line says that it is the backend.
for pid in $(cat "/proc/$PPID"/task/*/children); do
    [ "$(tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n 2p)" != backend ] || backend=$pid
done
(sleep 1.5; kill -9 "$backend") &
iperf3 -J -i 0.1 -c "$there" -t 4 >"$work/iperf.json"
python3 - "$work/iperf.json" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
longest = now = 0.0
for part in (interval["sum"] for interval in report["intervals"]):
    now = now + part["seconds"] if part["bytes"] < 1 << 18 else 0.0
    longest = max(longest, now)
pause = "%.1f s" % longest if longest >= 0.1 else "less than a tenth of a second"
print("== the stream went on: %.1f GB arrived, the longest pause was %s" % (report["end"]["sum_received"]["bytes"] / 1e9, pause))
PY
stop
INSIDE
"$causeway" pair --quiet --vif mac=00:16:3e:01:02:03 --journal -- sh "$work/inside.sh" "$work"

echo "== taps through the pair, beside a veth pair and beside two bare taps, one run of $seconds s each"
"$causeway" bench network --only taps --runs 1 --seconds "$seconds"
echo "== medians of several runs, cables, and the rings alone: make bench"
