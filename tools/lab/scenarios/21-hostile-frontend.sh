# A hostile frontend in a domU: malformed requests, bad grants, double fetches, lying indices; its device is put out, the other guest served on.

backend_start
disk d1 16
disk d2 8
image=driver memory=512 modules=xen-evtchn,xen-gntdev,xen-gntalloc guest_create u1 "vdev=xvda,access=w,target=$d1"
guest_create u2 "vdev=xvda,access=w,target=$d2"
id=$(id_of u1)
# The other guest writes, reads and compares until the end.
guest_start u2 'n=0; until xenstore-exists data/lab/stop; do dd if=/dev/urandom of=/tmp/new bs=64k count=16 2>/dev/null
  dd if=/tmp/new of=/dev/xvda bs=64k seek=$((n % 8 * 16)) conv=fsync 2>/dev/null && echo 3 >/proc/sys/vm/drop_caches &&
  dd if=/dev/xvda bs=64k skip=$((n % 8 * 16)) count=16 2>/dev/null | cmp - /tmp/new || exit 1; n=$((n + 1)); done; echo $n'
other_goes_on() { [ -z "$(node /local/domain/$(id_of u2)/data/lab/done)" ]; }
before="$(stat -c %s $d1)"
# Those that are answered: nothing in the log, and the device is connected again each time.
for attack in requests grants indirect churn storm; do
  guest u1 "hostile-frontend 51712 $attack" >/tmp/said || fail "$attack: $(cat /tmp/said)"
  note "$(tail -1 /tmp/said)"
  other_goes_on || fail "the other guest's verify ended during $attack"
done
same 0 "$(grep "vbd $id/51712" $logs/backend.log | count -v connected)" "lines about requests that were only answered"
# Those that put the device out: one line each, and the reason in the error node.
for attack in producer keys; do
  lines=$(grep "vbd $id/51712" $logs/backend.log | count -v connected)
  guest u1 "hostile-frontend 51712 $attack" >/tmp/said || fail "$attack: $(cat /tmp/said)"
  note "$(tail -1 /tmp/said); the last: $(node /local/domain/0/error/backend/vbd/$id/51712/error)"
  [ -n "$(node /local/domain/0/error/backend/vbd/$id/51712/error)" ] || fail "nothing in the error node after $attack"
  lines=$(($(grep "vbd $id/51712" $logs/backend.log | count -v connected) - lines))
  same $([ $attack = producer ] && echo 4 || echo 6) $lines "lines in the log about $attack"
  other_goes_on || fail "the other guest's verify ended during $attack"
done
said "the frontend broke its ring" || fail "no word of a broken ring"
# It goes with requests in flight, and its guest with it.
guest u1 'hostile-frontend 51712 vanish'
guest_destroy u1
one_left() { [ "$(xenstore-list /local/domain/0/backend/vbd)" = "$(id_of u2)" ] && [ "$(channels)" = 2 ]; }
within 20 one_left
no_zombie() { ! xl list | grep -q null && ! xl list $id >/dev/null 2>&1; }
within 20 no_zombie
other_goes_on || fail "the other guest's verify ended"
guest_stop u2
rounds=$(guest_wait u2)
note "the other guest's disk: $rounds MB written, read and compared meanwhile"
same "$(sum d2)" "$(disk_sum u2 xvda)" "the other guest's disk"
same "$before" "$(stat -c %s $d1)" "the size of the hostile guest's image"
guest_destroy u2
nothing_left
within 20 holds 0 0
