# A PVH guest, whose memory is auto-translated: checksum and a file system, with flush and discard.

backend_start
disk d1 16
type=pvh guest_create u1 "vdev=xvda,access=w,target=$d1"
same "$(sum d1)" "$(disk_sum u1 xvda)" checksum
exercise u1 xvda all
same "$(sum d1)" "$(disk_sum u1 xvda)" "checksum afterwards"
guest_destroy u1
nothing_left
