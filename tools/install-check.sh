#!/bin/sh
# Installs everything below a scratch directory and uses it from there as somebody would who has only that: the C example by pkg-config, the Python
# example, the command, its manual page. `tools/install-check.sh`; run by `make verify-install`.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM HUP PIPE
root=$scratch/root
ok() { echo "ok    $*"; }

${MAKE:-make} -s install DESTDIR="$root" >"$scratch/install.log" 2>&1 || { tail -20 "$scratch/install.log"; exit 1; }
lib=$root/usr/local/lib

# The prefix in the .pc file is /usr/local; pkg-config puts the scratch directory before what it finds there.
flags=$(PKG_CONFIG_SYSROOT_DIR=$root PKG_CONFIG_LIBDIR=$lib/pkgconfig pkg-config --cflags --libs causeway-translation)
# shellcheck disable=SC2086 # words on purpose
cc -std=c11 -Wall -Wextra -Werror -o "$scratch/example" Examples/translation/translation.c $flags
LD_LIBRARY_PATH=$lib "$scratch/example" >"$scratch/c.out"
grep -q '^0x104123 is frame 0x2a004 + 0x123, 12 pages in a row, rw$' "$scratch/c.out"
ok "the C example, by pkg-config: $flags" | sed "s|$scratch|…|g"

# As somebody would who is given the wheel and nothing else of this.
${MAKE:-make} -s wheel >"$scratch/wheel.log" 2>&1 || { tail -20 "$scratch/wheel.log"; exit 1; }
/usr/bin/python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --no-index .build/wheel/causeway_translation-*.whl
(cd / && "$scratch/venv/bin/python" "$OLDPWD/Examples/translation/translation.py") >"$scratch/python.out"
grep -q '^frame 0x2a004 is pfn 0x104$' "$scratch/python.out"
ok "the Python example, by the wheel $(basename .build/wheel/*.whl)"

# A program that uses the library needs no Swift, and sees nothing but the header's functions.
if readelf -d "$lib/libcauseway-translation.so.1" | grep -q 'NEEDED.*libswift'; then
    echo "FAIL  the library needs the Swift runtime"
    exit 1
fi
others=$(nm -D --defined-only "$lib/libcauseway-translation.so.1" | awk '{ print $NF }' | grep -v -e '^causeway_' -e '@@' -e '^CAUSEWAY' || true)
[ -z "$others" ] || { echo "FAIL  the library shows more: $others"; exit 1; }
ok "the library: needs no Swift, shows the header's functions only"

"$root/usr/local/bin/causeway" --help >"$scratch/help.out"
grep -q '^SUBCOMMANDS:' "$scratch/help.out"
[ -e "$lib/causeway/libCausewayNBD.so" ]
# Libraries of Xen whose names change with each release would keep the command from starting beside another one.
needed=$(readelf -d "$root/usr/local/bin/causeway" | sed -n 's/.*NEEDED.*\[\(libxen.*\)\]/\1/p')
for name in $needed; do
    case $name in
        *.so.1) ;;
        *) echo "FAIL  causeway needs $name"; exit 1 ;;
    esac
done
ok "causeway --help; of Xen it needs $(echo "$needed" | tr '\n' ' ')"

truncate -s 1M "$scratch/disk.img"
# shellcheck disable=SC2016 # $uri is the command's
[ "$("$root/usr/local/bin/causeway" pair --quiet --disk "$scratch/disk.img,raw,xvda,w" -- sh -c 'nbdinfo --size "$uri"' 2>"$scratch/pair.log")" = 1048576 ]
ok "causeway pair, with the plugin from the same tree"

# As management software does it: the description names a program, and the program says what it can.
program=$(python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); assert d["type"] == "block"; print(d["binary"])' \
    "$root/usr/local/share/qemu/vhost-user/50-causeway-blk.json")
"$root$program" --print-capabilities | python3 -c 'import json, sys; assert "blk-file" in json.load(sys.stdin)["features"]'
ok "the program $program, by its description for QEMU's managers"

# The stand-in for Xen's libraries: one file under four names, without need of Swift, that a program of Xen's finds through the launcher.
for name in libxengnttab.so.1 libxenevtchn.so.1 libxenforeignmemory.so.1 libxencall.so.1; do
    [ "$(readlink -f "$lib/causeway/libxen/$name")" = "$(readlink -f "$lib/causeway/libcauseway-libxen.so")" ]
done
libxen=$lib/causeway/libcauseway-libxen.so
if readelf -d "$libxen" | grep -q 'NEEDED.*libswift'; then
    echo "FAIL  the stand-in for Xen's libraries needs the Swift runtime"
    exit 1
fi
count=$(nm -D --defined-only --with-symbol-versions "$libxen" | grep -c ' T xen.*@@VERS_1\.[0-4]$' || true)
others=$(nm -D --defined-only "$libxen" | awk '$2 != "d" { print $NF }' | grep -v -e '^xen' -e '^VERS_' || true)
if [ "$count" != 56 ] || [ -n "$others" ]; then
    echo "FAIL  the stand-in shows $count functions of Xen's, and: $others"
    exit 1
fi
"$root/usr/local/bin/causeway" pair --quiet --disk "$scratch/disk.img,raw,xvda,w" -- \
    "$root/usr/local/bin/causeway" xen-run -- /usr/lib/xen-4.17/bin/lsevtchn 0 >"$scratch/ports.out" 2>"$scratch/ports.log"
grep -q 'Interdomain' "$scratch/ports.out" && [ ! -s "$scratch/ports.log" ]
grep -q 'xen-run' "$root/usr/local/share/man/man8/causeway.8"
ok "the stand-in for Xen's libraries: no Swift, 56 functions, lsevtchn through causeway xen-run"

sh -n "$root/etc/xen/scripts/block-causeway" 2>/dev/null || bash -n "$root/etc/xen/scripts/block-causeway"
[ -s "$root/usr/local/share/man/man8/causeway.8" ] && [ -s "$root/usr/local/share/bash-completion/completions/causeway" ]
ok "the manual page, the completions, the hotplug script"

version=$(PKG_CONFIG_LIBDIR=$lib/pkgconfig pkg-config --modversion causeway-translation)
[ "$("$root/usr/local/bin/causeway" --version)" = "causeway $version" ]
grep -q "^\.Os causeway $version\$" "$root/usr/local/share/man/man8/causeway.8"
ok "version $version from the command, pkg-config and the manual page"
