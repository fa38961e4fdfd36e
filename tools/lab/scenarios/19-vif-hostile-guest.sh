# A guest that attacks our netback (slot counts, extras, sizes, references, indices, keys, storms), while another guest is served on.

. /lab/net.sh
bridge_up
netback_start
serve 8
net_guest u1 2
image=driver memory=512 modules=xen-evtchn,xen-gntdev,xen-gntalloc more="vif=['mac=00:16:3e:09:00:66,bridge=br0']" guest_create hostile
# Somebody must ask for addresses, so that there are frames for pages that cannot be written.
(while :; do arping -q -c 1 -w 1 -I br0 10.9.0.99 || sleep 0.2; done) >/dev/null 2>&1 &
asker=$!
guest_start u1 "touch /tmp/on; (while [ -e /tmp/on ]; do ping -c 1 -W 5 $bridge >/dev/null && echo answered || echo lost; done) >/tmp/pings 2>&1 & for i in 1 2 3 4 5 6; do wget -q -O - http://$bridge:8080/file | md5sum | cut -d' ' -f1; done"
fds() { ls /proc/$(backend_pid)/fd | wc -l; }
before=$(fds)
guest_start hostile 'hostile-netfront 2>&1'
guest_wait hostile 300 || fail "an attack was not warded off"
same "$(for i in 1 2 3 4 5 6; do echo $served; done)" "$(guest_wait u1 300)" "files to the other guest"
guest u1 'rm /tmp/on; sleep 1; sort /tmp/pings | uniq -c; grep -q answered /tmp/pings && ! grep -q lost /tmp/pings'
kill $asker
backend_alive || fail "the backend is gone"
guest_destroy hostile
sleep 2
# One connected interface less than before.
[ "$(fds)" -le "$before" ] || fail "$(fds) descriptors, $before before"
note "$(grep -c 'vif .*/0: ' $logs/backend.log) lines of log"
pings u1 56 9000
serve_end
guest_destroy u1
sleep 1
no_vifs_left
bridge_down
