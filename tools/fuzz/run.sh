#!/bin/sh
# Builds the fuzz targets and runs each for a number of seconds (60 unless told): tools/fuzz/run.sh [seconds] [target ...]
# Exits 1 on a finding; its input is left in tools/fuzz/out/.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
[ $# -gt 0 ] && shift
targets=${*:-$(cd Sources && ls -d Fuzz* | grep -v FuzzSupport)}
out=$PWD/out
mkdir -p "$out"
python3 seeds.py "$out/seeds"

# Swift's own crash reporter would take the crash before libFuzzer writes its input down.
export SWIFT_BACKTRACE=enable=no
status=0
for target in $targets; do
    # --sanitize=address beside --sanitize=fuzzer would build and then fuzz blindly, with one counter; so ASan comes through -Xswiftc.
    # -enable-testing: the network's targets drive the drivers' own parts, which are nobody else's business.
    swift build -c release --product "$target" --sanitize=fuzzer -Xswiftc -sanitize=fuzzer,address -Xswiftc -enable-testing
    mkdir -p "$out/corpus/$target" "$out/seeds/$target"
    log=$out/$target.log
    if "$(swift build -c release --show-bin-path)/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=4096 -artifact_prefix="$out/$target-" -print_final_stats=1 "$out/corpus/$target" "$out/seeds/$target" 2>"$log"; then
        result="no finding"
    else
        result="FINDING, see $log"
        status=1
    fi
    counters=$(sed -n 's/.*(\([0-9]*\) inline 8-bit counters).*/\1/p' "$log" | sort -n | tail -1)
    if [ "${counters:-0}" -le 1 ]; then
        result="$result; BLIND: ${counters:-no} coverage counters"
        status=1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    echo "$target: $result; ${runs:-?} runs, ${rate:-?} a second, ${counters:-?} counters"
done
exit $status
