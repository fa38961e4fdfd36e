#!/bin/bash
# The network's checks in full, on real taps (as root): `run.sh PATH-OF-CAUSEWAY`. Run by `make test-network`; some minutes.
set -euo pipefail
causeway=$1
here=$(cd "$(dirname "$0")" && pwd)
export CHECK_SIZE=full
if [ "$(id -u)" -ne 0 ]; then echo "test-network: taps and namespaces need root" >&2; exit 1; fi

namespaces() { ip netns list 2>/dev/null | awk '/^causeway-/ {print $1}'; }
before=$(namespaces)
begun=$SECONDS
pair() { # OPTIONS… -- CHECKS…
    local options=()
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    echo "== ${options[*]} (after $((SECONDS - begun)) s)"
    timeout --kill-after=10 900 "$causeway" pair --quiet "${options[@]}" -- "$here/checks.sh" "$@"
}

mac=mac=00:16:3e:0a:0b:0c
pair --vif $mac -- all
pair --vif $mac,mtu=9000 -- all
pair --vif $mac --journal -- backend_taken_over
pair --vif $mac --vif-queues 4 --journal -- backend_taken_over
pair --vif $mac --vif-queues 4 --reactors 2 --journal -- backend_taken_over
for option in --no-sg --no-gso4 --no-gso6 --no-csum4 --no-csum6 --no-grant-mapping "--no-control-ring --no-split" "--vif-queues 4" \
    "--vif-queues 4 --reactors 2" "--vif-polling sleep" "--vif-polling adaptive:50"; do
    # shellcheck disable=SC2086 # options are words
    CHECK_SIZE=short pair --vif $mac $option -- sizes flood streams file offloads
done
# Ours are those that were not there before and whose process, which the name tells, is no more: others may be at work.
left=$(comm -13 <(sort <<<"$before") <(namespaces | sort) | while IFS=- read -r name process number; do
    [ -e "/proc/$process" ] || echo "$name-$process-$number"
done)
[ -z "$left" ] || { echo "test-network: namespaces left: $left" >&2; exit 1; }
echo "test-network: all passed in $((SECONDS - begun)) s"
