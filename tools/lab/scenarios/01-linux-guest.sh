# Linux's blkfront in a PV guest on our backend in dom0: checksum, ext4 made, filled and checked, flush and discard used.

backend_start
disk d1 48
guest_create u1 "vdev=xvda,access=w,target=$d1"
be=/local/domain/0/backend/vbd/$(id_of u1)/51712
fe=/local/domain/$(id_of u1)/device/vbd/51712
same 4 "$(node $be/state)" "backend state"
same 1 "$(node $be/feature-persistent)" "persistent grants at the back"
same 1 "$(node $fe/feature-persistent)" "persistent grants in front"
same 256 "$(node $be/feature-max-indirect-segments)" "indirect segments"
same 1 "$(node $be/feature-flush-cache)" flush
same 1 "$(node $be/feature-discard)" discard
# More than fits a direct request: indirect ones are made.
same 32 "$(guest u1 'cat /sys/block/xvda/queue/max_segments')" "segments of the guest's requests"
same "$(sum d1)" "$(disk_sum u1 xvda)" "checksum of the whole disk"
exercise u1 xvda all
same "$(sum d1)" "$(disk_sum u1 xvda)" "checksum after all that"
# What was discarded takes no room in the image.
[ "$(stat -c %b $d1)" -lt 65536 ] || fail "the image has all its blocks: $(stat -c %b $d1)"
same 1 "$(metric vbd_queues)" "queues, as causeway metrics has them"
[ "$(metric vbd_written_bytes_total)" -gt 4000000 ] || fail "bytes written: $(causeway metrics | grep bytes)"
causeway top --count 1 --interval 0.1 | grep -q "^$(id_of u1)/51712 " || fail "top does not show the disk"
guest_destroy u1
nothing_left
backend_alive || fail "the backend is gone"
e2fsck -fn $d1
