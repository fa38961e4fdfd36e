# xl block-attach and block-detach while the guest runs, a read-only disk, resize, two disks, two queues of four-page rings.

backend_start --queues 2 --ring-page-order 2
disk d1 16
disk d2 8
vcpus=2 extra="xen_blkfront.max_ring_page_order=2" guest_create u1 "vdev=xvda,access=w,target=$d1"
id=$(id_of u1)
be=/local/domain/0/backend/vbd/$id
same 2 "$(node /local/domain/$id/device/vbd/51712/multi-queue-num-queues)" queues
same 2 "$(node /local/domain/$id/device/vbd/51712/ring-page-order)" "ring page order"
same "$(sum d1)" "$(disk_sum u1 xvda)" "checksum through two queues"

attach u1 "vdev=xvdb,access=r,target=$d2" 51728 xvdb
same "$(sum d2)" "$(disk_sum u1 xvdb)" "checksum of the attached disk"
same 1 "$(guest u1 'cat /sys/block/xvdb/ro')" "read-only flag"
guest u1 'dd if=/dev/zero of=/dev/xvdb bs=4k count=1 conv=fsync 2>/dev/null' && fail "a read-only disk was written"
# Both at once, each on its two queues.
guest u1 "for d in xvda xvdb; do (echo 3 >/proc/sys/vm/drop_caches; md5sum /dev/\$d >/tmp/\$d) & (dd if=/dev/\$d of=/dev/null bs=4k count=300 iflag=direct 2>/dev/null) & done; wait; cat /tmp/xvd?" >/tmp/sums
same "$(sum d1) $(sum d2)" "$(cut -d' ' -f1 /tmp/sums | xargs)" "checksums of both at once"

truncate -s 24M $d1
within 20 node_is $be/51712/sectors 49152
guest u1 'for i in $(seq 300); do [ $(cat /sys/block/xvda/size) = 49152 ] && exit 0; sleep 0.1; done; exit 1' || fail "the guest does not see the new size"
guest u1 'dd if=/dev/urandom of=/dev/xvda bs=1M seek=20 count=4 conv=fsync 2>/dev/null'
same "$(sum d1)" "$(disk_sum u1 xvda)" "checksum of the grown disk"

detach u1 51728 xvdb
guest u1 'test ! -e /dev/xvdb' || fail "the guest still has xvdb"
same "$(sum d1)" "$(disk_sum u1 xvda)" "the first disk, unharmed"
guest_destroy u1
nothing_left
within 20 holds 0 0
