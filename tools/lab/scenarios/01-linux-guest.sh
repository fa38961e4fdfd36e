# Linux's blkfront in a PV guest on our backend in dom0: checksum, ext4 made, filled and checked, flush and discard.

backend_start
disk d1 48
guest_create u1 "vdev=xvda,access=w,target=$d1"
be=/local/domain/0/backend/vbd/$(id_of u1)/51712
fe=/local/domain/$(id_of u1)/device/vbd/51712
same 4 "$(node $be/state)" "backend state"
same 1 "$(node $be/feature-persistent)" "persistent grants at the back"
same 1 "$(node $fe/feature-persistent)" "persistent grants in front"
same 256 "$(node $be/feature-max-indirect-segments)" "indirect segments"
same 1 "$(node $be/feature-flush-cache)" flush
same 1 "$(node $be/feature-discard)" discard
same "$(sum d1)" "$(guest u1 "md5sum /dev/xvda | cut -d' ' -f1")" "checksum of the whole disk"
guest u1 '/sbin/mke2fs -q -t ext4 -E discard /dev/xvda && mount -t ext4 -o discard /dev/xvda /mnt'
guest u1 'cd /mnt && for i in 1 2 3 4; do dd if=/dev/urandom of=f$i bs=64k count=100 2>/dev/null; done; md5sum f* > sums; sync; rm -f f4; sync'
guest u1 'umount /mnt && echo 3 > /proc/sys/vm/drop_caches && e2fsck -fn /dev/xvda && mount -t ext4 /dev/xvda /mnt && cd /mnt && grep -v f4 sums | md5sum -c'
guest u1 'cd / && umount /mnt; cat /sys/block/xvda/stat'
same "$(sum d1)" "$(guest u1 "md5sum /dev/xvda | cut -d' ' -f1")" "checksum after all that"
guest_destroy u1
sleep 1
backend_alive || fail "the backend is gone"
e2fsck -fn $d1
nothing_left
