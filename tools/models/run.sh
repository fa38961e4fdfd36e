#!/bin/sh
# Checks the models with Spin: each protocol must hold, and each mutant must fail. Needs spin and a C compiler; a minute or two, 1 GB.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP PIPE
cd "$work"

model=doorbell
check() { # check NAME hold|fail DEFINES...
    name=$1 expected=$2
    shift 2
    spin "$@" -a "$here/$model.pml" >spin.log
    ${CC:-cc} -O2 -DSAFETY -DCOLLAPSE -DMEMLIM=3000 -o pan pan.c
    ./pan -m6000000 >pan.log 2>&1 || true
    states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' pan.log)
    if grep -q 'too small\|out of memory\|max search' pan.log; then
        verdict="was not searched in full"
    elif grep -q 'errors: 0' pan.log; then
        verdict=hold
    else
        verdict=fail
    fi
    why=$(sed -n 's/^pan:1: //p' pan.log)
    echo "$model, $name: $verdict (${states:-?} states)${why:+: $why}"
    if [ "$verdict" != "$expected" ]; then
        echo "models: $model, $name should $expected" >&2
        exit 1
    fi
}

check "two slots" hold
check "one slot" hold -DS=1
check "mutant: no final check" fail -DNO_FINAL_CHECK
check "mutant: no fence between publishing and reading the event" fail -DNO_PUBLISH_FENCE
check "mutant: no fence between arming and looking again" fail -DNO_ARM_FENCE
check "mutant: the index may pass the slots" fail -DNO_RELEASE
check "mutant: the event one entry late" fail -DLATE_EVENT
check "mutant: one request more than slots" fail -DNO_OVERFLOW_ROOM

model=virtqueue
check "two entries" hold
check "one entry" hold -DS=1
check "two entries, flags" hold -DFLAGS
check "one entry, flags" hold -DS=1 -DFLAGS
check "mutant: no look after the arming" fail -DNO_RECHECK
check "mutant: no look after the arming, flags" fail -DNO_RECHECK -DFLAGS
check "mutant: no fence between publishing and reading the event" fail -DNO_PUBLISH_FENCE
check "mutant: no fence between publishing and reading the flags" fail -DNO_PUBLISH_FENCE -DFLAGS
check "mutant: no fence between arming and looking again" fail -DNO_ARM_FENCE
check "mutant: no fence between arming and looking again, flags" fail -DNO_ARM_FENCE -DFLAGS
check "mutant: the index may pass the entries" fail -DNO_RELEASE
check "mutant: the event one entry late" fail -DLATE_EVENT
check "mutant: as many entries as positions" fail -DLARGE_RING
