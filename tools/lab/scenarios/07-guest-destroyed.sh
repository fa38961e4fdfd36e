# xl destroy of a guest under I/O: no grant, port, mapping or store node is left, and another guest's disk serves on.

backend_start
disk d1 16
disk d2 16
guest_create u1 "vdev=xvda,access=w,target=$d1"
guest_create u2 "vdev=xvda,access=w,target=$d2"
mappings() { grep -c gntdev /proc/$(backend_pid)/maps || true; }
channels() { ls -l /proc/$(backend_pid)/fd | grep -c xen/evtchn || true; }
guest u2 "md5sum /dev/xvda | cut -d' ' -f1" >/dev/null
guest_start u1 'while :; do dd if=/dev/zero of=/dev/xvda bs=64k count=100 conv=fsync 2>/dev/null; done'
sleep 2
id=$(id_of u1)
note "with both guests: $(mappings) grants mapped, $(channels) descriptors of channels"
guest_destroy u1
one_left() { [ "$(xenstore-list /local/domain/0/backend/vbd)" = "$(id_of u2)" ] && [ "$(channels)" = 2 ]; }
within 20 one_left
# The domain itself is gone: a mapping that was left would keep it as a zombie.
no_zombie() { ! xl list | grep -q null && ! xl list $id >/dev/null 2>&1; }
within 20 no_zombie
same "" "$(ls /run/causeway | grep -- "-$id-" || true)" "journals of the dead guest"
same "$(sum d2)" "$(guest u2 "echo 3 > /proc/sys/vm/drop_caches; md5sum /dev/xvda | cut -d' ' -f1")" "the other guest's disk"
guest_destroy u2
sleep 1
same 0 "$(mappings)" "grants mapped at the end"
same 0 "$(channels)" "channels at the end"
nothing_left
