# kill -9 of our netback under TCP transfers in both directions, three times: they complete, and the guest's interface never goes.

. /lab/net.sh
bridge_up
netback_start
serve 48
net_guest u1 2
be=/local/domain/0/backend/vif/$(id_of u1)/0
guest u1 'mkdir -p /tmp/www; dd if=/dev/urandom of=/tmp/www/file bs=1M count=24 2>/dev/null; httpd -p 8080 -h /tmp/www; dmesg -c >/dev/null'
sent=$(guest u1 "md5sum </tmp/www/file | cut -d' ' -f1")
guest_start u1 "wget -q -O - http://$bridge:8080/file | md5sum | cut -d' ' -f1"
(wget -q -O - http://10.9.0.2:8080/file | md5sum | cut -d' ' -f1 >/tmp/got) &
getter=$!
for round in 1 2 3; do
  sleep 2
  backend_kill KILL
  same 4 "$(node $be/state)" "state of a killed backend"
  [ -e /sys/class/net/br0/brif/vif$(id_of u1).0 ] || fail "the tap left its bridge"
  sleep 1
  netback_start
  taken_over() { [ "$(grep -c 'taken over' $logs/backend.log)" = $round ]; }
  within 20 taken_over
done
same "$served" "$(guest_wait u1 300)" "file to the guest"
wait $getter
same "$sent" "$(cat /tmp/got)" "file from the guest"
note "$(grep 'taken over' $logs/backend.log | sed 's/.*csum6; //' | tr '\n' ',')"
guest u1 'dmesg | grep -iE "eth0|vif"' && fail "the guest noticed" || true
# An ordinary restart: no close cycle, either.
guest_start u1 "wget -q -O - http://$bridge:8080/file | md5sum | cut -d' ' -f1"
sleep 1
backend_kill TERM
same 4 "$(node $be/state)" "state of a stopped backend"
netback_start
same "$served" "$(guest_wait u1 300)" "file across a restart"
pings u1 56 9000
serve_end
guest_destroy u1
sleep 1
no_vifs_left
same "" "$(ls /run/causeway | grep journal || true)" "journals left"
bridge_down
