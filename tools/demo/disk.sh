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

# Figures: the same fio job through the pair (fio's NBD client) and on the file itself (io_uring), on a file in memory.
bench=$work/bench.img
if [ -d /dev/shm ] && [ -w /dev/shm ]; then bench=$(mktemp /dev/shm/causeway-demo.XXXXXX); fi
dd if=/dev/urandom of="$bench" bs=1M count=256 status=none

figures() { # fio's terse output: 8 and 7 are read IOPS and KiB/s, 49 and 48 write
    # fio's NBD engine puts a line of its own before them.
    awk -F';' 'NF > 49 { i = $8 + $49; b = ($7 + $48) * 1024 / 1e6; printf "%d %.0f\n", i, b }'
}
job() { # NAME RW BS DEPTH
    common="--name=$1 --rw=$2 --bs=$3 --iodepth=$4 --runtime=$seconds --time_based --norandommap --minimal"
    # shellcheck disable=SC2086 # a list of words on purpose
    # shellcheck disable=SC2016 # $uri is the command's
    through=$("$causeway" pair --quiet --disk "$bench,raw,xvda,w" -- sh -c 'exec fio --ioengine=nbd --uri="$uri" --size=256m '"$common" | figures)
    # shellcheck disable=SC2086
    direct=$(fio --ioengine=io_uring --filename="$bench" --size=256m $common | figures)
    # shellcheck disable=SC2086
    set -- "$1" $through $direct
    printf '%-28s %10s %8s %12s %8s %7s\n' "$1" "$2" "$3" "$4" "$5" "$(awk "BEGIN { printf \"%.2f\", $2 / $4 }")"
}
echo "== through the pair by NBD, beside io_uring on the same file in memory"
printf '%-28s %10s %8s %12s %8s %7s\n' "" "pair IOPS" "MB/s" "direct IOPS" "MB/s" "ratio"
job read-4k-depth-1 randread 4k 1
job read-4k-depth-32 randread 4k 32
job write-4k-depth-32 randwrite 4k 32
job read-128k-depth-32 randread 128k 32
job write-128k-depth-32 randwrite 128k 32
echo "== without NBD in between: make bench"
