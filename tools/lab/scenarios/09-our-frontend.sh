# Our frontend, in a domU, against Linux's xen-blkback: the disk read whole through NBD, written and compared.

modprobe xen-blkback
disk d1 16
losetup /dev/loop0 $d1
image=driver memory=640 modules=xen-evtchn,xen-gntdev,xen-gntalloc guest_create u1 "vdev=xvda,access=w,script=block-plain,target=/dev/loop0"
frontend_start u1
same 4 "$(node /local/domain/0/backend/vbd/$(id_of u1)/51712/state)" "backend state"
same "$(sum d1)" "$(nbd_sum u1)" "checksum read"
nbd_verify u1
same "$(guest u1 "md5sum /tmp/new | cut -d' ' -f1")" "$(md5sum /dev/loop0 | cut -d' ' -f1)" "checksum written"
frontend_stop u1
guest_destroy u1
nothing_left
modprobe -r xen-blkback
