# Our backend in a driver domain: dom0 holds neither the disk nor the driver; then it is killed there, under I/O.

image=driver memory=512 modules=xen-evtchn,xen-gntdev,loop more="driver_domain=1" guest_create drv
guest drv 'dd if=/dev/urandom of=/tmp/disk.img bs=1M count=32 2>/dev/null; (causeway backend --xen >/tmp/backend.log 2>&1 & echo $! > /tmp/pid)'
guest_create u1 "vdev=xvda,access=w,backend=drv,target=/tmp/disk.img"
be=/local/domain/$(id_of drv)/backend/vbd/$(id_of u1)/51712
same 4 "$(node $be/state)" "backend state"
same "" "$(xenstore-list /local/domain/0/backend/vbd 2>/dev/null || true)" "dom0's own backends"
drv_sum() { guest drv "md5sum /tmp/disk.img | cut -d' ' -f1"; }
same "$(drv_sum)" "$(disk_sum u1 xvda)" checksum
exercise u1 xvda all
same "$(drv_sum)" "$(disk_sum u1 xvda)" "checksum after writing"
guest u1 'mount -t ext4 /dev/xvda /mnt && dd if=/dev/urandom of=/tmp/pattern bs=64k count=48 2>/dev/null'
guest_start u1 'until xenstore-exists data/lab/stop; do for i in 1 2 3 4; do dd if=/tmp/pattern of=/mnt/f$i bs=16k conv=fsync 2>/dev/null || exit 1; done; done
  echo 3 >/proc/sys/vm/drop_caches; for f in /mnt/f?; do cmp /tmp/pattern $f || exit 1; done; umount /mnt && /sbin/e2fsck -fn /dev/xvda'
guest drv 'was=$(stat -c %y /tmp/disk.img); while [ "$(stat -c %y /tmp/disk.img)" = "$was" ]; do sleep 0.1; done
  kill -9 $(cat /tmp/pid); sleep 1; (causeway backend --xen >>/tmp/backend.log 2>&1 & echo $! >/tmp/pid)
  for i in $(seq 600); do grep -q "taken over" /tmp/backend.log && break; sleep 0.1; done; cat /tmp/backend.log'
guest drv 'grep -q "taken over" /tmp/backend.log' || fail "the device was not taken over"
guest_stop u1
guest_wait u1 300
same "$(drv_sum)" "$(disk_sum u1 xvda)" "checksum afterwards"
guest_destroy u1
cleared() { [ -z "$(xenstore-list /local/domain/$(id_of drv)/backend/vbd 2>/dev/null)" ]; }
within 20 cleared
guest drv 'for i in $(seq 100); do ls /run/causeway | grep -q journal || exit 0; sleep 0.1; done; exit 1' || fail "journals left"
