#!/bin/bash
# What must be seen to work through one interface. Runs as the COMMAND of `causeway pair --vif …` (as root); its arguments name checks, or
# `all`. CHECK_SIZE=full does each to its whole extent, else a short version runs. Prints one line a check; fails with the first that does.
set -euo pipefail

full() { [ "${CHECK_SIZE:-short}" = full ]; }
near=$CAUSEWAY_TAP_BACK_0
far=$CAUSEWAY_TAP_FRONT_0
there() { ip netns exec "$CAUSEWAY_NETNS_0" "$@"; }
# A server there, of the number `$server`: `exec`, so that what is killed is the server and not a shell that waits for it.
serve() { (exec ip netns exec "$CAUSEWAY_NETNS_0" "$@") & server=$!; }
# This pair's own networks, so that pairs beside it are not in the way.
number=$((PPID % 62500))
net4=10.$((number / 250 + 1)).$((number % 250 + 1))
net6=fd00:ca:$(printf %x "$number")
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT

ip addr add "$net4.1/24" dev "$near"
ip -6 addr add "$net6::1/64" dev "$near" nodad
there ip addr add "$net4.2/24" dev "$far"
there ip -6 addr add "$net6::2/64" dev "$far" nodad
ping -q -c 1 -W 5 "$net4.2" >/dev/null
ping -q -c 1 -W 5 "$net6::2" >/dev/null

# The pair's processes of a role, by the second word of their command line alone: a script's own text may be in a command line, too.
role() {
    # shellcheck disable=SC2013 # numbers, not lines
    for pid in $(cat "/proc/$PPID"/task/*/children); do
        if [ "$(tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | sed -n 2p)" = "$1" ]; then echo "$pid"; fi
    done
}

fail() { echo "$check: $*" >&2; exit 1; }

# What is being done, where it takes a while: with CHECK_SIZE=full a line each, else nothing.
say() { if full; then echo "$check: $*"; fi; }

# Echo requests of many sizes; every answer must hold the same bytes.
cat >"$work/sizes.py" <<'PY'
import ipaddress, os, socket, struct, sys
target, sizes = sys.argv[1], eval(sys.argv[2])
six = ipaddress.ip_address(target).version == 6
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
s.settimeout(2); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
s.connect((target, 0))
noise = os.urandom(1 << 17)
def checksum(b):
    b += b'\0' * (len(b) % 2); t = sum(struct.unpack('!%dH' % (len(b) // 2), b))
    while t >> 16: t = (t & 0xFFFF) + (t >> 16)
    return 0xFFFF - t
def ask(n, i):
    body = noise[n % 999:n % 999 + n]
    head = struct.pack('!BBHHH', 128 if six else 8, 0, 0, os.getpid() & 0xFFFF, i & 0xFFFF)
    if not six: head = head[:2] + struct.pack('!H', checksum(head + body)) + head[4:]
    s.send(head + body)
    while True:
        d = s.recv(1 << 17)
        if not six: d = d[(d[0] & 15) * 4:]
        if d[0] == (129 if six else 0) and d[4:8] == head[4:8]: return d[8:] == body
for i, n in enumerate(sizes):
    for attempt in range(3):
        # A machine that is busy elsewhere may be late; bytes that differ are never forgiven.
        try: ok = ask(n, i * 3 + attempt)
        except TimeoutError: continue
        if not ok: sys.exit('%d bytes came back changed' % n)
        break
    else: sys.exit('%d bytes did not come back' % n)
PY

check_sizes() {
    if full; then
        say "65508 over IPv4, every seventh over IPv6"
        python3 "$work/sizes.py" "$net4.2" 'range(0, 65508)'
        python3 "$work/sizes.py" "$net6::2" 'range(0, 65488, 7)'
    else
        python3 "$work/sizes.py" "$net4.2" 'sorted({*range(0, 200, 3), *range(1440, 1500), *range(4000, 4200, 5), *range(8000, 65508, 811), 65507})'
        python3 "$work/sizes.py" "$net6::2" '[0, 1, 1432, 1433, 4048, 8000, 30000, 65487]'
    fi
}

# A flood must come back whole.
flood() {
    local report
    report=$("$@") || true
    case $report in *" 0% packet loss"*) ;; *) fail "$*: $(tail -2 <<<"$report")" ;; esac
}

check_flood() {
    local count=1000; full && count=20000
    say "$count over IPv4 and over IPv6, as many of 1400 bytes back"
    flood ping -q -f -c $count "$net4.2"
    flood ping -q -f -c $count "$net6::2"
    flood there ping -q -f -s 1400 -c $count "$net4.1"
}

serve_iperf() {
    serve iperf3 -s >/dev/null 2>&1
    for _ in $(seq 100); do there ss -tln | grep -q :5201 && return; sleep 0.05; done
}

# iperf3's report must name bytes that arrived, and for UDP no packet that did not.
iperf() {
    iperf3 -J "$@" >"$work/iperf.json" || fail "iperf3 $*: $(head -c 300 "$work/iperf.json")"
    python3 - "$work/iperf.json" "$*" <<'PY' || fail "iperf3 $*"
import json, sys
end = json.load(open(sys.argv[1]))["end"]
if "-u" in sys.argv[2].split():
    lost = end["sum"]["lost_packets"]
    # Of a thousand packets one may be lost in a socket's buffer when its reader is not let run.
    if lost * 1000 > end["sum"]["packets"]: sys.exit("%d of %d packets lost" % (lost, end["sum"]["packets"]))
elif end["sum_received"]["bytes"] < 1 << 20: sys.exit("only %d bytes" % end["sum_received"]["bytes"])
PY
}

check_streams() {
    # In time, or short: in bytes.
    local tcp="-n 16M" udp="-n 1M"; full && tcp="-t 5" udp="-t 5"
    serve_iperf
    for address in "$net4.2" "$net6::2"; do
        for direction in "" -R; do
            for streams in 1 8; do
                say "$streams over $address ${direction:+back}"
                # shellcheck disable=SC2086 # words, or none
                iperf -c "$address" $tcp -P $streams $direction
                # Paced, and with a buffer that holds what comes while the reader waits for its turn.
                # shellcheck disable=SC2086
                iperf -u -c "$address" $udp -P $streams -b $((40 / streams))M -w 2M $direction
            done
        done
    done
    kill "$server"; wait "$server" 2>/dev/null || true
}

check_file() {
    local megabytes=64; full && megabytes=1024
    say "$megabytes MiB"
    head -c "${megabytes}M" /dev/urandom >"$work/file"
    serve python3 -m http.server --directory "$work" --bind "$net4.2" 8000 >/dev/null 2>&1
    for _ in $(seq 100); do there ss -tln | grep -q :8000 && break; sleep 0.05; done
    local wanted got
    wanted=$(sha256sum <"$work/file")
    got=$(python3 -c "
import shutil, sys, urllib.request
shutil.copyfileobj(urllib.request.urlopen('http://$net4.2:8000/file', timeout=60), sys.stdout.buffer, 1 << 20)" | sha256sum)
    kill "$server"; wait "$server" 2>/dev/null || true
    [ "$wanted" = "$got" ] || fail "the file's checksum differs"
}

# Bytes there and back again, over both versions.
cat >"$work/echo.py" <<'PY'
import hashlib, os, socket, sys, threading
def take(c):
    parts = []
    while d := c.recv(1 << 20): parts.append(d)
    return b''.join(parts)
if sys.argv[1] == 'serve':
    s = socket.create_server(('', 5555), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        c, _ = s.accept(); c.sendall(take(c)); c.close()
for address in sys.argv[3:]:
    data = os.urandom(int(sys.argv[2])); c = socket.create_connection((address, 5555), 20); c.settimeout(60)
    def send(): c.sendall(data); c.shutdown(socket.SHUT_WR)
    threading.Thread(target=send).start()
    if hashlib.sha256(take(c)).digest() != hashlib.sha256(data).digest(): sys.exit(address + ': not the same bytes')
PY

serve_echo() {
    serve python3 "$work/echo.py" serve
    for _ in $(seq 200); do there ss -tln | grep -q :5555 && return; sleep 0.05; done
}

check_echo() {
    serve_echo
    local bytes=4000000; full && bytes=100000000
    python3 "$work/echo.py" ask $bytes "$net4.2" "$net6::2" || fail "not the same bytes"
    kill "$server"; wait "$server" 2>/dev/null || true
}

# Every combination of offloads, on both sides: the same bytes.
check_offloads() {
    serve_echo
    local count=64 bytes=1000000
    full && bytes=4000000
    for ((combination = 0; combination < count; combination++)); do
        # The short version: all on, all off, each alone, each alone missing.
        if ! full; then case $combination in 0 | 1 | 2 | 4 | 8 | 16 | 32 | 63 | 62 | 61 | 59 | 55 | 47 | 31) ;; *) continue ;; esac; fi
        if ((combination % 16 == 0)); then say "combination $combination of $count"; fi
        local words="" bit=1
        for feature in rx tx sg tso gso gro; do
            if ((combination & bit)); then words+=" $feature on"; else words+=" $feature off"; fi
            bit=$((bit * 2))
        done
        # Some need others; what the kernel does not allow stays as it is.
        # shellcheck disable=SC2086
        { ethtool -K "$near" $words; there ethtool -K "$far" $words; } >/dev/null 2>&1 || true
        python3 "$work/echo.py" ask $bytes "$net4.2" "$net6::2" || fail "with$words"
    done
    { ethtool -K "$near" rx on tx on sg on tso on gso on gro on; there ethtool -K "$far" rx on tx on sg on tso on gso on gro on; } >/dev/null 2>&1 || true
    kill "$server"; wait "$server" 2>/dev/null || true
}

# kill -9 of the backend under iperf3: bytes arrive again within a second. Intervals are iperf3's, a tenth of a second each.
check_backend_killed() {
    serve_iperf
    say "iperf3 for 5 s, a kill in the middle"
    (sleep 1.5; kill -9 "$(role backend)") &
    iperf3 -J -c "$net4.2" -t 5 -i 0.1 >"$work/iperf.json" || fail "iperf3: $(head -c 300 "$work/iperf.json")"
    python3 - "$work/iperf.json" <<'PY' || fail "the stream stopped for too long"
import json, sys
report = json.load(open(sys.argv[1]))
longest = now = 0.0
for interval in report["intervals"]:
    part = interval["sum"]
    # What the sender's buffer takes counts as little as nothing.
    now = now + part["seconds"] if part["bytes"] < 1 << 18 else 0.0
    longest = max(longest, now)
print("longest pause %.1f s" % longest)
sys.exit(longest > 1.05)
PY
    kill "$server"; wait 2>/dev/null || true
}

# The same with journals, again and again: the successor goes on with the same rings and mapped pages, and the frontend's state stays 4.
check_backend_taken_over() {
    local before after
    frontend=$(xenstore-list /local/domain | tail -1)
    frontend=/local/domain/$frontend/device/vif/0
    before=$(xenstore-read "$frontend/tx-ring-ref" 2>/dev/null || xenstore-read "$frontend/queue-0/tx-ring-ref")
    for _ in 1 2 3; do check_backend_killed; done
    after=$(xenstore-read "$frontend/tx-ring-ref" 2>/dev/null || xenstore-read "$frontend/queue-0/tx-ring-ref")
    [ "$before" = "$after" ] || fail "the frontend has other rings than before: $after, not $before"
    [ "$(xenstore-read "$frontend/state")" = 4 ] || fail "the frontend's state is $(xenstore-read "$frontend/state")"
}

checks="$*"
[ "$checks" = all ] && checks="sizes flood streams echo file offloads backend_killed"
for check in $checks; do
    start=$(date +%s%N)
    "check_$check"
    echo "$check: passed in $((($(date +%s%N) - start) / 1000000)) ms"
done
