# Our frontend, in a domU, against Linux's xen-blkback: the disk read whole through NBD, written and compared.

modprobe xen-blkback
disk d1 16
losetup /dev/loop0 $d1
image=driver memory=640 modules=xen-evtchn,xen-gntdev,xen-gntalloc guest_create u1 "vdev=xvda,access=w,script=block-plain,target=/dev/loop0"
guest u1 'echo 8192 > /sys/module/xen_gntalloc/parameters/limit; (causeway frontend vbd xvda --xen --nbd /tmp/nbd >/tmp/frontend.log 2>&1 &); for i in $(seq 100); do [ -S /tmp/nbd ] && break; sleep 0.2; done; cat /tmp/frontend.log; test -S /tmp/nbd'
same 4 "$(node /local/domain/0/backend/vbd/$(id_of u1)/51712/state)" "backend state"
same "$(sum d1)" "$(guest u1 "nbdcopy nbd+unix:///?socket=/tmp/nbd /tmp/copy && md5sum /tmp/copy | cut -d' ' -f1")" "checksum read"
guest u1 'dd if=/dev/urandom of=/tmp/new bs=1M count=16 2>/dev/null; nbdcopy --flush /tmp/new nbd+unix:///?socket=/tmp/nbd && nbdcopy nbd+unix:///?socket=/tmp/nbd /tmp/copy && cmp /tmp/new /tmp/copy'
same "$(guest u1 "md5sum /tmp/new | cut -d' ' -f1")" "$(md5sum /dev/loop0 | cut -d' ' -f1)" "checksum written"
guest u1 'kill $(pidof nbdkit || pgrep -f "frontend vbd"); sleep 1; true'
guest_destroy u1
sleep 1
nothing_left
modprobe -r xen-blkback
