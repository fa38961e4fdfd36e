#!/bin/sh
# Checks doorbell.pml with Spin: the protocol must hold, and each mutant must fail. Needs spin and a C compiler; a minute, 1 GB.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP PIPE
cd "$work"

check() { # check NAME hold|fail DEFINES...
    name=$1 expected=$2
    shift 2
    spin "$@" -a "$here/doorbell.pml" >spin.log
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
    echo "$name: $verdict (${states:-?} states)${why:+: $why}"
    if [ "$verdict" != "$expected" ]; then
        echo "models: $name should $expected" >&2
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
