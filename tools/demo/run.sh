#!/bin/sh
# The main job on real devices, a disk, a network, and both for a QEMU guest beside a frontend of Xen's: `run.sh PATH-OF-CAUSEWAY`. Run by `make demo`, as root. DEMO_SECONDS is how long each
# measurement takes.
set -eu

causeway=$(realpath "${1:-.build/release/causeway}")
here=$(cd "$(dirname "$0")" && pwd)

if [ "$(id -u)" -ne 0 ]; then
    echo "demo: loop devices, mounts, taps and namespaces need root; run: sudo make demo" >&2
    exit 1
fi
for node in /dev/fuse /dev/net/tun; do
    if [ ! -e "$node" ]; then
        echo "demo: $node is not there; run: modprobe ${node##*/}" >&2
        exit 1
    fi
done

"$here/disk.sh" "$causeway"
echo
"$here/network.sh" "$causeway"
echo
"$here/worlds.sh" "$causeway"
