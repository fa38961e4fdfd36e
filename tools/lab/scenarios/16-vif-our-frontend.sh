# Our netfront, in a domU, on Linux's xen-netback: ping, HTTP both ways.

. /lab/net.sh
bridge_up
modprobe xen-netback
serve 4
more="vif=['mac=00:16:3e:09:00:02,bridge=br0']" image=driver memory=640 modules=xen-evtchn,xen-gntdev,xen-gntalloc,tun guest_create u1
guest u1 '(causeway frontend vif 0 --xen --tap tap0 >/tmp/frontend.log 2>&1 & echo $! > /tmp/pid); for i in $(seq 50); do grep -q connected /tmp/frontend.log && break; sleep 0.2; done; cat /tmp/frontend.log; grep -q connected /tmp/frontend.log'
same 4 "$(node /local/domain/0/backend/vif/$(id_of u1)/0/state)" "backend state"
same 00:16:3e:09:00:02 "$(guest u1 'cat /sys/class/net/tap0/address')" "the tap's address"
net_address u1 2 tap0
pings u1
fetches u1
gives u1 2 4
guest u1 'kill $(cat /tmp/pid); sleep 1; test ! -e /sys/class/net/tap0' || fail "the tap outlives its frontend"
serve_end
guest_destroy u1
sleep 1
no_vifs_left
modprobe -r xen-netback
bridge_down
