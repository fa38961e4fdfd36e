#!/bin/sh
# Two worlds on one backend: a QEMU guest with Debian's own virtio drivers has a disk and one end of a cable; at the other end is Xen's netfront.
# While the guest writes and pings, the backend is killed twice and upgraded, and the disk grows. The third part of `make demo`, as root; an emulated guest (TCG).
#
#   disk.img <- one backend == virtqueue == virtio-blk \
#                  |                                    guest
#                  +--- cable ======= virtqueue == virtio-net /
#                  +=== ring, grants == netfront <- tap, in a namespace
set -eu

causeway=$1
here=$(cd "$(dirname "$0")" && pwd)
guest=$here/../guest
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP PIPE

echo "== a guest: Debian's kernel, its virtio drivers and busybox"
if ! "$guest/prepare" "$work/guest" >"$work/prepare.log" 2>&1; then
    cat "$work/prepare.log" >&2
    echo "demo: there is no kernel for the guest: this part is left out" >&2
    exit 0
fi
truncate -s 64M "$work/disk.img"

# Runs in the guest. A write of 64 KiB every so often, with the time that the longest took; /proc/uptime counts hundredths.
cat >"$work/inside.sh" <<'INSIDE'
ip link set eth0 up; ip addr add 198.18.1.2/24 dev eth0
ping -c 1 -w 10 198.18.1.1 >/dev/null && echo "guest: netfront answers"
echo "guest: disk $(cat /sys/block/vda/size) sectors of 512 bytes"
dd if=/dev/urandom of=/t bs=64k count=64 2>/dev/null
now() { read a b </proc/uptime; echo "${a%.*}${a#*.}"; }
echo "guest: begun"; longest=0; n=0; end=$(($(now) + 1700))
while [ $(now) -lt $end ]; do
  t=$(now); dd if=/t of=/dev/vda bs=64k count=1 skip=$((n % 64)) seek=$((n % 64)) oflag=direct 2>/dev/null || echo "guest: FAILED"
  t=$(($(now) - t)); [ $t -gt $longest ] && longest=$t; n=$((n + 1))
done
echo "guest: $n writes, none failed, the longest $((longest * 10)) ms"
dd if=/t of=/dev/vda bs=64k oflag=direct 2>/dev/null
[ "$(dd if=/dev/vda bs=64k count=64 iflag=direct 2>/dev/null | md5sum)" = "$(md5sum </t)" ] && echo "guest: reads what it wrote"
echo "guest: disk $(cat /sys/block/vda/size) sectors of 512 bytes"
echo "guest: $(dmesg | grep -c 'is not a head\|I/O error') errors in its log"
INSIDE

cat >"$work/pair.sh" <<'PAIR'
set -eu
work=$1 guest=$2
ip -n "$CAUSEWAY_NETNS_0" addr add 198.18.1.1/24 dev "$CAUSEWAY_TAP_FRONT_0"
ip -n "$CAUSEWAY_NETNS_0" link set "$CAUSEWAY_TAP_FRONT_0" up
echo "== the devices, seen from both worlds"
# shellcheck disable=SC2086 # $qemu is a list of words
"$guest/run" "$work/guest" "$(cat "$work/inside.sh")" $qemu >"$work/console" 2>"$work/qemu.log" &
machine=$!
trap 'kill "$machine" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM HUP PIPE
for _ in $(seq 600); do
    grep -q "guest: begun" "$work/console" && break
    kill -0 "$machine" || { cat "$work/console" "$work/qemu.log" >&2; exit 1; }
    sleep 0.1
done
"$causeway" device list
ip netns exec "$CAUSEWAY_NETNS_0" ping -i 0.1 -w 15 198.18.1.2 >"$work/ping" &
ping=$!
waits() { sed -n 's/.*front ends have waited for //p' "$work/log"; }
for kill in first second; do
    sleep 2
    before=$(waits | wc -l)
    for socket in "$CAUSEWAY_RUN_DIR"/device-*.sock; do
        backend=${socket##*/device-}
        kill -9 "${backend%.sock}" 2>/dev/null && echo "== kill -9 of the backend, the $kill"
    done
    for _ in $(seq 100); do [ "$(waits | wc -l)" -gt "$before" ] && break; sleep 0.1; done
    echo "its front ends have waited for $(waits | tail -n 1), and have connected to nobody anew"
    sleep 2
done
echo "== the backend becomes the program that is installed now"
"$causeway" upgrade
sleep 2
truncate -s 96M "$work/disk.img"
echo "== the disk is 96 MiB now"
wait "$ping" || true
wait "$machine"
trap - EXIT
tr -d '\r' <"$work/console" | grep '^guest: ' | grep -v begun
grep -q 'guest: reads what it wrote' "$work/console" || { cat "$work/console" "$work/qemu.log" >&2; exit 1; }
echo "== QEMU has connected $(grep -c 'a front end connected' "$work/log") times, once for each device"
sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) received.*/== pings to the guest, ten a second: \2 of \1 answered/p' "$work/ping"
PAIR

export causeway
# What QEMU's front end and the killed backends say in between is in the way here.
"$causeway" pair --journal --disk "$work/disk.img,raw,xvda,w,front=vhost-user" \
    --vif mac=00:16:3e:01:02:0a,peer=00:16:3e:01:02:0b,front=vhost-user -- sh "$work/pair.sh" "$work" "$guest" 2>"$work/log" ||
    { cat "$work/log" >&2; exit 1; }
