# A missing image, a bad format, a busy disk, no device: one clear message each, in the log and the error node; the others unharmed.

backend_start
disk d1 8
guest_create u1 "vdev=xvda,access=w,target=$d1"
id=$(id_of u1)
error() { node /local/domain/0/error/backend/vbd/$id/$1/error; }
xl block-attach u1 "format=raw,vdev=xvdb,access=w,script=block-causeway,target=/tmp/none.img" && fail "a missing image was attached" || true
same 1 "$(grep -c none.img $logs/backend.log)" "messages about it"

xl block-attach u1 "format=raw,vdev=xvdc,access=w,script=block-causeway,target=$d1"
said() { error $1 | grep -q "$2"; }
within 20 said 51744 "$d1"
note "busy: $(error 51744)"
xl block-detach u1 xvdc || xl block-detach u1 xvdc force

disk d2 4
xl block-attach u1 "format=raw,vdev=xvdd,access=w,script=block-causeway,target=$d2"
within 20 node_is /local/domain/0/backend/vbd/$id/51760/state 4
same "$(sum d1)$(sum d2)" "$(guest u1 "for d in xvda xvdd; do md5sum /dev/\$d; done | cut -d' ' -f1 | tr -d '\n'")" "the other disks"
guest_destroy u1

mv /dev/xen/gntdev /dev/xen/away
causeway backend --xen 2>/tmp/said && fail "started without gntdev" || true
grep -q "no /dev/xen/gntdev" /tmp/said || fail "it says: $(cat /tmp/said)"
mv /dev/xen/away /dev/xen/gntdev
