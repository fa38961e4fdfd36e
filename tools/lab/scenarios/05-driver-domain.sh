# Our backend in a driver domain: dom0 holds neither the disk nor the driver; then it is killed there, under I/O.

image=driver memory=512 modules=xen-evtchn,xen-gntdev,loop more="driver_domain=1" guest_create drv
guest drv 'dd if=/dev/urandom of=/tmp/disk.img bs=1M count=32 2>/dev/null; (causeway backend --xen >/tmp/backend.log 2>&1 & echo $! > /tmp/pid)'
guest_create u1 "vdev=xvda,access=w,backend=drv,target=/tmp/disk.img"
be=/local/domain/$(id_of drv)/backend/vbd/$(id_of u1)/51712
same 4 "$(node $be/state)" "backend state"
same "" "$(xenstore-list /local/domain/0/backend/vbd 2>/dev/null || true)" "dom0's own backends"
same "$(guest drv "md5sum /tmp/disk.img | cut -d' ' -f1")" "$(guest u1 "md5sum /dev/xvda | cut -d' ' -f1")" checksum
guest u1 '/sbin/mke2fs -q -t ext4 /dev/xvda && mount -t ext4 /dev/xvda /mnt && dd if=/dev/urandom of=/tmp/pattern bs=64k count=64 2>/dev/null'
guest_start u1 'for i in 1 2 3 4; do dd if=/tmp/pattern of=/mnt/f$i bs=16k conv=fsync 2>/dev/null || exit 1; done; echo 3 > /proc/sys/vm/drop_caches; for f in /mnt/f*; do cmp /tmp/pattern $f || exit 1; done; umount /mnt && /sbin/e2fsck -fn /dev/xvda'
guest drv 'sleep 1; kill -9 $(cat /tmp/pid); sleep 1; (causeway backend --xen >>/tmp/backend.log 2>&1 & echo $! > /tmp/pid); sleep 3; cat /tmp/backend.log'
guest_wait u1 300
guest drv 'grep "taken over" /tmp/backend.log' || fail "the device was not taken over"
same "$(guest drv "md5sum /tmp/disk.img | cut -d' ' -f1")" "$(guest u1 "md5sum /dev/xvda | cut -d' ' -f1")" "checksum afterwards"
guest_destroy u1
sleep 1
same "" "$(xenstore-list /local/domain/$(id_of drv)/backend/vbd 2>/dev/null || true)" "backend directories left"
guest drv 'ls /run/causeway | grep -c journal' && fail "journals left" || true
