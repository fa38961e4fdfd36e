# A missing image, bad targets, a busy disk, no device: one clear message each, in the log and the error node; the others unharmed.

backend_start
disk d1 8
guest_create u1 "vdev=xvda,access=w,target=$d1"
id=$(id_of u1)
error() { node /local/domain/0/error/backend/vbd/$id/$1/error; }
error_says() { error $1 | grep -q -- "$2"; }
# refused NUMBER NAME TARGET WORDS: in the error node, and on one line of the log
refused() {
  xl block-attach u1 "format=raw,vdev=$2,access=w,script=block-causeway,target=$3" || true
  within 20 error_says $1 "$4"
  same 1 "$(grep -- "vbd $id/$1" $logs/backend.log | count -- "$4")" "messages about $3"
  note "$2: $(error $1)"
  xl block-detach u1 $2 || xl block-detach u1 $2 force
}
# Where xl runs the script, that tells xl.
xl block-attach u1 "format=raw,vdev=xvdb,access=w,script=block-causeway,target=/tmp/none.img" 2>/tmp/xl && fail "a missing image was attached" || true
within 20 said none.img
same 1 "$(count none.img <$logs/backend.log)" "messages about a missing image"
refused 51744 xvdc $d1 "$d1"
refused 51760 xvdd /tmp /tmp
refused 51776 xvde nbd+unix:///?socket=/nowhere /nowhere
refused 51792 xvdf nothing://at/all nothing

disk d2 4
attach u1 "vdev=xvdg,access=w,target=$d2" 51808 xvdg
same "$(sum d1) $(sum d2)" "$(disk_sum u1 xvda) $(disk_sum u1 xvdg)" "the other disks"
guest_destroy u1
backend_kill TERM

for device in gntdev evtchn; do
  mv /dev/xen/$device /dev/xen/away
  causeway backend --xen 2>/tmp/said && fail "started without $device" || true
  grep -q "no /dev/xen/$device" /tmp/said || fail "it says: $(cat /tmp/said)"
  mv /dev/xen/away /dev/xen/$device
done
