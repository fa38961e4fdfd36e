# A PVH guest, whose memory is auto-translated: checksum and a file system.

backend_start
disk d1 16
type=pvh guest_create u1 "vdev=xvda,access=w,target=$d1"
same "$(sum d1)" "$(guest u1 "md5sum /dev/xvda | cut -d' ' -f1")" checksum
guest u1 '/sbin/mke2fs -q -t ext4 /dev/xvda && mount -t ext4 /dev/xvda /mnt && dd if=/dev/urandom of=/mnt/f bs=64k count=60 2>/dev/null && umount /mnt && /sbin/e2fsck -fn /dev/xvda'
same "$(sum d1)" "$(guest u1 "echo 3 > /proc/sys/vm/drop_caches; md5sum /dev/xvda | cut -d' ' -f1")" "checksum afterwards"
guest_destroy u1
sleep 1
nothing_left
