#!/bin/sh
# A loop device goes through a frontend and a backend process, an ext4 file system is made on it, filled and checked, and fio shows the pair
# beside the same job on the same file without it. The first half of `make demo`, as root.
#
#   disk.img <- /dev/loopA <- blkback == ring, grants == blkfront <- NBD <- nbdfuse <- /dev/loopB <- ext4
#
# nbdfuse and a second loop device give the pair's disk a device node without the nbd kernel module, which many kernels lack.
set -eu

causeway=$1
seconds=${DEMO_SECONDS:-3}
work=$(mktemp -d)
backing=""
bench=""
cleanup() {
    status=$?
    # Whatever fails, and whoever does not read on: nothing stays.
    set +e
    trap '' INT TERM HUP PIPE
    [ -z "$backing" ] || losetup -d "$backing"
    [ -z "$bench" ] || rm -f "$bench"
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
# A shell that a signal ends runs no EXIT trap; `make demo | head` ends it by SIGPIPE.
trap 'exit 130' INT TERM HUP PIPE

truncate -s 1G "$work/disk.img"
backing=$(losetup --find --show "$work/disk.img")
echo "== a loop device on a sparse file: $backing"

# Runs inside the pair, with $uri.
cat >"$work/filesystem.sh" <<'INSIDE'
set -eu
work=$1
front=""
fuse=""
cleanup() {
    status=$?
    set +e
    trap '' INT TERM HUP PIPE
    mountpoint -q "$work/mnt" && umount "$work/mnt"
    [ -z "$front" ] || losetup -d "$front"
    if [ -n "$fuse" ]; then
        # The loop device lets go a moment after it is told to.
        for _ in 1 2 3 4 5 6 7 8 9 10; do fusermount3 -u "$work/nbd" 2>/dev/null && break; sleep 0.2; done
        wait "$fuse" || true
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP PIPE

echo "== the store, as Xen's own xenstore-ls sees it"
xenstore-ls -f /local/domain | grep -E '/(state|ring-ref|ring-ref0|event-channel|params|sectors|feature-[a-z-]*|protocol) =' | head -40

mkdir -p "$work/mnt"
: >"$work/nbd"
nbdfuse "$work/nbd" "$uri" &
fuse=$!
for _ in $(seq 100); do [ -s "$work/nbd" ] && break; sleep 0.05; done
front=$(losetup --find --show "$work/nbd")

echo "== ext4 through the pair, on $front"
mkfs.ext4 -q "$front"
mount "$front" "$work/mnt"
cp -r /usr/include "$work/mnt/"
sync -f "$work/mnt"
(cd /usr/include && find . -type f -exec sha256sum {} +) >"$work/sums"
umount "$work/mnt"
e2fsck -f -p "$front"
mount -o ro "$front" "$work/mnt"
(cd "$work/mnt/include" && sha256sum --quiet -c "$work/sums")
echo "== $(wc -l <"$work/sums") files came back as they were"
INSIDE
"$causeway" pair --disk "$backing,raw,xvda,w" -- sh "$work/filesystem.sh" "$work"

echo "== the file system, checked without the pair"
e2fsck -f -n "$backing"

# Figures: the same fio job, with fio's NBD client, through the pair and through the servers that a user would otherwise take, on one file in memory.
bench=$work/bench.img
if [ -d /dev/shm ] && [ -w /dev/shm ]; then bench=$(mktemp /dev/shm/causeway-demo.XXXXXX); fi
dd if=/dev/urandom of="$bench" bs=1M count=256 status=none

cat >"$work/job.sh" <<'JOB'
# RW BS DEPTH SECONDS, on $uri. fio's NBD engine puts a line of its own before its terse output: 8 are read IOPS, 49 write.
exec fio --ioengine=nbd --uri="$uri" --size=256m --name=x --rw="$1" --bs="$2" --iodepth="$3" --runtime="$4" --time_based --norandommap --minimal |
    awk -F';' 'NF > 49 { printf "%d\n", $8 + $49 }'
JOB
beside() { # RW BS DEPTH
    # shellcheck disable=SC2016 # $uri is the command's
    ours=$("$causeway" pair --quiet --disk "$bench,raw,xvda,w" -- sh "$work/job.sh" "$@" "$seconds")
    # It is a variable of the shell there, and not of what that runs.
    kit=$(nbdkit -U - file "$bench" --run "uri=\$uri sh '$work/job.sh' $* $seconds")
    qemu-nbd --format=raw --cache=writeback --persistent --fork --socket="$work/qemu.sock" --pid-file="$work/qemu.pid" "$bench"
    qemu=$(uri="nbd+unix:///?socket=$work/qemu.sock" sh "$work/job.sh" "$@" "$seconds")
    server=$(cat "$work/qemu.pid")
    kill "$server"
    for _ in $(seq 100); do kill -0 "$server" 2>/dev/null || break; sleep 0.05; done
    rm -f "$work/qemu.sock" "$work/qemu.pid"
    awk -v job="$1 $2, depth $3" -v ours="$ours" -v kit="$kit" -v qemu="$qemu" \
        'BEGIN { printf "%-24s %10d %14d %8.2f %14d %8.2f\n", job, ours, kit, ours / kit, qemu, ours / qemu }'
}
echo "== requests a second through frontend and backend by NBD, beside two servers on the same file in memory"
printf '%-24s %10s %14s %8s %14s %8s\n' "" "the pair" "nbdkit file" "ratio" "qemu-nbd" "ratio"
beside randread 4k 1
beside randread 4k 32
beside randwrite 4k 32
beside randread 128k 8
beside randwrite 128k 8
echo "== without NBD in between: make bench"
