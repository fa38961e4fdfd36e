# Our frontend in one domU against our backend in another: the disk read whole through NBD, written and compared.

image=driver memory=512 modules=xen-evtchn,xen-gntdev,loop more="driver_domain=1" guest_create drv
guest drv 'dd if=/dev/urandom of=/tmp/disk.img bs=1M count=16 2>/dev/null; (causeway backend --xen >/tmp/backend.log 2>&1 & echo $! > /tmp/pid)'
image=driver memory=640 modules=xen-evtchn,xen-gntdev,xen-gntalloc guest_create u1 "vdev=xvda,access=w,backend=drv,target=/tmp/disk.img"
frontend_start u1 --queues 2
same "$(guest drv "md5sum /tmp/disk.img | cut -d' ' -f1")" "$(nbd_sum u1)" "checksum read"
nbd_verify u1
same "$(guest u1 "md5sum /tmp/new | cut -d' ' -f1")" "$(guest drv "md5sum /tmp/disk.img | cut -d' ' -f1")" "checksum written"
frontend_stop u1
