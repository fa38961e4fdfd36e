# xl block-attach and block-detach while the guest runs, a read-only disk, resize, two disks, two queues.

backend_start --queues 2 --ring-page-order 2
disk d1 16
disk d2 8
vcpus=2 extra="xen_blkfront.max_ring_page_order=2" guest_create u1 "vdev=xvda,access=w,target=$d1"
id=$(id_of u1)
be=/local/domain/0/backend/vbd/$id
same 2 "$(node /local/domain/$id/device/vbd/51712/multi-queue-num-queues)" queues
same 2 "$(node /local/domain/$id/device/vbd/51712/ring-page-order)" "ring page order"
same "$(sum d1)" "$(guest u1 "md5sum /dev/xvda | cut -d' ' -f1")" "checksum through two queues"

xl block-attach u1 "format=raw,vdev=xvdb,access=r,script=block-causeway,target=$d2"
within 20 node_is $be/51728/state 4
same "$(sum d2)" "$(guest u1 "md5sum /dev/xvdb | cut -d' ' -f1")" "checksum of the attached disk"
same 1 "$(guest u1 'cat /sys/block/xvdb/ro')" "read-only flag"
guest u1 'dd if=/dev/zero of=/dev/xvdb bs=4k count=1 conv=fsync 2>/dev/null' && fail "a read-only disk was written"

truncate -s 24M $d1
within 20 node_is $be/51712/sectors 49152
grown() { [ "$(guest u1 'cat /sys/block/xvda/size')" = 49152 ]; }
within 20 grown
guest u1 'dd if=/dev/urandom of=/dev/xvda bs=1M seek=20 count=4 conv=fsync 2>/dev/null'
same "$(sum d1)" "$(guest u1 "md5sum /dev/xvda | cut -d' ' -f1")" "checksum of the grown disk"

xl block-detach u1 xvdb
gone() { [ -z "$(node $be/51728/state)" ]; }
within 20 gone
guest u1 'test ! -e /dev/xvdb' || fail "the guest still has xvdb"
xl block-attach u1 "format=raw,vdev=xvdc,access=w,script=block-causeway,target=/tmp/none.img" && fail "a missing image was attached" || true
echo "$(xenstore-ls /local/domain/0/error 2>/dev/null)"
grep -q "none.img" $logs/backend.log || fail "no message about the missing image"
same "$(sum d1)" "$(guest u1 "md5sum /dev/xvda | cut -d' ' -f1")" "the first disk, unharmed"
guest_destroy u1
sleep 1
nothing_left
