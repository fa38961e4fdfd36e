# Persistent grants and indirect descriptors refused, both, each alone, and by the guest; flush and discard refused.

disk d1 16
guest_create u1
id=$(id_of u1)
be=/local/domain/0/backend/vbd/$id/51712
fe=/local/domain/$id/device/vbd/51712
# refused BACK-PERSISTENT FRONT-PERSISTENT INDIRECT-SEGMENTS FLUSH-AND-DISCARD [ARGUMENT…]: what must stand in the store, with what arguments
refused() {
  local back=$1 front=$2 segments=$3 flush=$4; shift 4
  backend_start "$@"
  attach u1 "vdev=xvda,access=w,target=$d1" 51712 xvda
  same $back "$(node $be/feature-persistent)" "persistent grants at the back, $*"
  same $front "$(node $fe/feature-persistent)" "persistent grants in front, $*"
  same "$segments" "$(node $be/feature-max-indirect-segments)" "indirect segments, $*"
  same $flush "$(node $be/feature-flush-cache)$(node $be/feature-discard)" "flush and discard, $*"
  same $([ -n "$segments" ] && echo 32 || echo 11) "$(guest u1 'cat /sys/block/xvda/queue/max_segments')" "segments of a request, $*"
  same "$(sum d1)" "$(disk_sum u1 xvda)" "checksum, $*"
  exercise u1 xvda $([ $flush = 00 ] || echo all)
  same "$(sum d1)" "$(disk_sum u1 xvda)" "checksum after writing, $*"
  detach u1 51712 xvda
  nothing_left
  backend_kill TERM
}
refused 0 1 "" 11 --no-persistent --segments 11
refused 0 1 256 11 --no-persistent
refused 1 1 "" 00 --segments 11 --no-flush --no-discard --no-barrier
guest u1 'echo 0 >/sys/module/xen_blkfront/parameters/feature_persistent'
refused 0 0 256 11
guest_destroy u1
