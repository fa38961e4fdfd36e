# kill -9 of our backend under I/O, three times, and its restart: the guest sees pauses, no error, and its file system checks clean.

backend_start
disk d1 64
# A loop device: its I/O takes a while, so that requests are in work when the backend dies.
losetup /dev/loop0 $d1
guest_create u1 "vdev=xvda,access=w,target=/dev/loop0"
guest u1 '/sbin/mke2fs -q -t ext4 /dev/xvda && mount -t ext4 /dev/xvda /mnt && dd if=/dev/urandom of=/tmp/pattern bs=64k count=48 2>/dev/null'
# Four writers at once until dom0 says stop, each file synced, and compared after the caches are dropped.
guest_start u1 'writers=; for w in 1 2 3 4; do (until xenstore-exists data/lab/stop; do dd if=/tmp/pattern of=/mnt/f$w bs=16k conv=fsync 2>/dev/null || exit 1; done) & writers="$writers $!"; done
  for writer in $writers; do wait $writer || exit 1; done; sync; echo 3 >/proc/sys/vm/drop_caches; for f in /mnt/f*; do cmp /tmp/pattern $f || exit 1; done'
be=/local/domain/0/backend/vbd/$(id_of u1)/51712
taken_over() { [ "$(count 'taken over' <$logs/backend.log)" = $1 ]; }
for round in 1 2 3; do
  io_goes_on loop0
  backend_kill KILL
  same 4 "$(node $be/state)" "state of a killed backend"
  # The guest meets a disk that does not answer.
  sleep 1
  backend_start
  within 20 taken_over $round
done
io_goes_on loop0
guest_stop u1
guest_wait u1 300
taken_over 3 || fail "devices taken over: $(count 'taken over' <$logs/backend.log)"
note "$(grep 'taken over' $logs/backend.log | sed 's/.*queues; //' | tr '\n' ',') "
guest u1 'dmesg | grep -iE "I/O error|xvda.*error|ext4.*error"' && fail "the guest saw an error"
# An ordinary restart: no close cycle, either.
guest_start u1 'until xenstore-exists data/lab/stop; do dd if=/dev/xvda of=/dev/null bs=64k iflag=direct 2>/dev/null || exit 1; done'
io_goes_on loop0
backend_kill TERM
same 4 "$(node $be/state)" "state of a stopped backend"
backend_start
within 20 taken_over 4
guest_stop u1
guest_wait u1
guest u1 'umount /mnt && /sbin/e2fsck -fn /dev/xvda'
same "$(sum d1)" "$(disk_sum u1 xvda)" "checksum"
guest_destroy u1
nothing_left
within 20 no_journals
