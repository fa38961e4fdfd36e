# Our netback in a driver domain: dom0 has neither the interface nor the driver; killed there under a transfer, and taken over.

. /lab/net.sh
image=driver memory=512 modules=xen-evtchn,xen-gntdev,tun,bridge more="driver_domain=1" guest_create drv
guest drv 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad; brctl addbr br0 && ip addr add 10.9.0.1/24 dev br0 && ip -6 addr add fd09::1/64 dev br0 && ip link set br0 up; (causeway backend --xen --backend-kind none >/tmp/backend.log 2>&1 & echo $! > /tmp/pid)'
guest drv 'mkdir -p /tmp/www; dd if=/dev/urandom of=/tmp/www/file bs=1M count=24 2>/dev/null; httpd -p 8080 -h /tmp/www'
served=$(guest drv "md5sum </tmp/www/file | cut -d' ' -f1")
net_guest u1 2 "mac=00:16:3e:09:00:02,bridge=br0,backend=drv"
be=/local/domain/$(id_of drv)/backend/vif/$(id_of u1)/0
same 4 "$(node $be/state)" "backend state"
same "" "$(xenstore-list /local/domain/0/backend/vif 2>/dev/null || true)" "dom0's own backends"
pings u1
fetches u1
guest_start u1 "wget -q -O - http://$bridge:8080/file | md5sum | cut -d' ' -f1"
guest drv 'sleep 1; kill -9 $(cat /tmp/pid); sleep 1; (causeway backend --xen --backend-kind none >>/tmp/backend.log 2>&1 & echo $! > /tmp/pid); sleep 3; cat /tmp/backend.log'
same "$served" "$(guest_wait u1 300)" "a file during whose transfer the backend died"
guest drv 'grep "taken over" /tmp/backend.log' || fail "the interface was not taken over"
pings u1 56 9000
guest_destroy u1
sleep 2
same "" "$(xenstore-list /local/domain/$(id_of drv)/backend/vif 2>/dev/null || true)" "backend directories left"
guest drv 'ls /sys/class/net | grep vif; ls /run/causeway | grep journal' && fail "taps or journals left" || true
