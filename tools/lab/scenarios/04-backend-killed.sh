# kill -9 of our backend under I/O, three times, and its restart: the guest sees pauses, no error, and its file system checks clean.

backend_start
disk d1 64
# A loop device: its I/O takes a while, so that requests are in work when the backend dies.
losetup /dev/loop0 $d1
guest_create u1 "vdev=xvda,access=w,target=/dev/loop0"
guest u1 '/sbin/mke2fs -q -t ext4 /dev/xvda && mount -t ext4 /dev/xvda /mnt && dd if=/dev/urandom of=/tmp/pattern bs=64k count=64 2>/dev/null'
# Four writers at once, each file synced and compared after the caches are dropped.
guest_start u1 'for w in 1 2 3 4; do (for i in 1 2 3; do dd if=/tmp/pattern of=/mnt/f$w.$i bs=16k conv=fsync 2>/dev/null || exit 1; done) & done; wait; sync; echo 3 > /proc/sys/vm/drop_caches; for f in /mnt/f*; do cmp /tmp/pattern $f || exit 1; done; ls /mnt | wc -l'
be=/local/domain/0/backend/vbd/$(id_of u1)/51712
for round in 1 2 3; do
  sleep 2
  backend_kill KILL
  same 4 "$(node $be/state)" "state of a killed backend"
  sleep 1
  backend_start
  taken_over() { [ "$(grep -c 'taken over' $logs/backend.log)" = $round ]; }
  within 20 taken_over
done
guest_wait u1 300
same 3 "$(grep -c 'taken over' $logs/backend.log)" "devices taken over"
note "$(grep 'taken over' $logs/backend.log | sed 's/.*queues; //' | tr '\n' ',') "
guest u1 'dmesg | grep -iE "I/O error|xvda.*error|ext4.*error"' && fail "the guest saw an error"
# An ordinary restart: no close cycle, either.
guest_start u1 'dd if=/dev/xvda of=/dev/null bs=64k 2>/dev/null; echo read'
backend_kill TERM
same 4 "$(node $be/state)" "state of a stopped backend"
backend_start
guest_wait u1
guest u1 'umount /mnt && /sbin/e2fsck -fn /dev/xvda'
same "$(sum d1)" "$(guest u1 "echo 3 > /proc/sys/vm/drop_caches; md5sum /dev/xvda | cut -d' ' -f1")" "checksum"
guest_destroy u1
sleep 1
nothing_left
same "" "$(ls /run/causeway | grep journal || true)" "journals left"
