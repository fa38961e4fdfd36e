# Too few grants for another device: one message in the log and the error node, which names the need and the limit; the others unharmed.

backend_start
disk d1 8
disk d2 4
guest_create u1 "vdev=xvda,access=w,target=$d1"
id=$(id_of u1)
same "$(sum d1)" "$(disk_sum u1 xvda)" "checksum"
default=$(cat /proc/sys/vm/max_map_count)
used=$(wc -l </proc/$(backend_pid)/maps)
echo $((used + 100)) >/proc/sys/vm/max_map_count
xl block-attach u1 "format=raw,vdev=xvdb,access=w,script=block-causeway,target=$d2" || true
error() { node /local/domain/0/error/backend/vbd/$id/51728/error; }
refused() { error | grep -q "this device needs .* grants mapped at the least, the limit is .* of vm.max_map_count"; }
within 20 refused
note "$(error)"
same 1 "$(count "vbd $id/51728: this device needs" <$logs/backend.log)" "messages"
exercise u1 xvda all
same "$(sum d1)" "$(disk_sum u1 xvda)" "the first disk"
xl block-detach u1 xvdb || xl block-detach u1 xvdb force
# Room for the device, but not for all that it would keep mapped.
echo $((used + 1000)) >/proc/sys/vm/max_map_count
attach u1 "vdev=xvdc,access=w,target=$d2" 51744 xvdc
said "vbd $id/51744: keeps .* grants mapped a queue, not 4352" || fail "no word of the smaller cache"
same "$(sum d2)" "$(disk_sum u1 xvdc)" "the disk with the smaller cache"
echo $default >/proc/sys/vm/max_map_count
guest_destroy u1
nothing_left
