# xl destroy of a guest under I/O: no grant, port, mapping or store node is left, and another guest's disk serves on.

backend_start
disk d1 16
disk d2 16
losetup /dev/loop0 $d1
guest_create u1 "vdev=xvda,access=w,target=/dev/loop0"
guest_create u2 "vdev=xvda,access=w,target=$d2"
disk_sum u2 xvda >/dev/null
guest_start u1 'while :; do dd if=/dev/zero of=/dev/xvda bs=64k count=100 conv=fsync 2>/dev/null; done'
io_goes_on loop0
id=$(id_of u1)
note "with both guests: $(mappings) grants mapped, $(channels) descriptors of channels"
guest_destroy u1
one_left() { [ "$(xenstore-list /local/domain/0/backend/vbd)" = "$(id_of u2)" ] && [ "$(channels)" = 2 ]; }
within 20 one_left
# The domain itself is gone: a mapping that was left would keep it as a zombie.
no_zombie() { ! xl list | grep -q null && ! xl list $1 >/dev/null 2>&1; }
within 20 no_zombie $id
same "" "$(ls /run/causeway | grep -- "-$id-" || true)" "journals of the dead guest"
same "$(sum d2)" "$(disk_sum u2 xvda)" "the other guest's disk"

# A guest that goes while no backend is there: the next one takes its journals away.
id=$(id_of u2)
backend_kill KILL
guest_destroy u2
[ -n "$(ls /run/causeway | grep -- "-$id-")" ] || fail "no journals of the second guest: $(ls /run/causeway)"
backend_start
within 20 no_journals
within 20 no_zombie $id
nothing_left
within 20 holds 0 0
