# Our frontend in one domU against our backend in another.

image=driver memory=512 modules=xen-evtchn,xen-gntdev,loop more="driver_domain=1" guest_create drv
guest drv 'dd if=/dev/urandom of=/tmp/disk.img bs=1M count=16 2>/dev/null; (causeway backend --xen >/tmp/backend.log 2>&1 & echo $! > /tmp/pid)'
image=driver memory=640 modules=xen-evtchn,xen-gntdev,xen-gntalloc guest_create u1 "vdev=xvda,access=w,backend=drv,target=/tmp/disk.img"
guest u1 'echo 8192 > /sys/module/xen_gntalloc/parameters/limit; (causeway frontend vbd xvda --xen --queues 2 --nbd /tmp/nbd >/tmp/frontend.log 2>&1 &); for i in $(seq 100); do [ -S /tmp/nbd ] && break; sleep 0.2; done; cat /tmp/frontend.log; test -S /tmp/nbd'
same "$(guest drv "md5sum /tmp/disk.img | cut -d' ' -f1")" "$(guest u1 "nbdcopy nbd+unix:///?socket=/tmp/nbd /tmp/copy && md5sum /tmp/copy | cut -d' ' -f1")" "checksum read"
guest u1 'dd if=/dev/urandom of=/tmp/new bs=1M count=16 2>/dev/null; nbdcopy --flush /tmp/new nbd+unix:///?socket=/tmp/nbd'
same "$(guest u1 "md5sum /tmp/new | cut -d' ' -f1")" "$(guest drv "md5sum /tmp/disk.img | cut -d' ' -f1")" "checksum written"
