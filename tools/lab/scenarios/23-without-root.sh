# Our backend as an ordinary user without capabilities, and what it says when it may not; as root it keeps only the capabilities that it uses.

disk d1 8
disk d2 4
mkdir -p /run/causeway
chown causeway /run/causeway $d1
chmod 600 $d1 $d2
user=causeway
refusal() { su causeway -c "causeway backend --xen" >/tmp/said 2>&1 && fail "started without $1" || true; grep -q -- "$2" /tmp/said || fail "without $1 it says: $(cat /tmp/said)"; note "$(tail -1 /tmp/said)"; }
chmod 600 /dev/xen/gntdev /dev/xen/evtchn
refusal evtchn "/dev/xen/evtchn: .*this process needs to read and write it"
chown causeway /dev/xen/evtchn
refusal gntdev "/dev/xen/gntdev: .*this process needs to read and write it"
chown causeway /dev/xen/gntdev
refusal "the store" "store.*this process needs to read and write it"
chown causeway /run/xenstored/socket
backend_start
same "900 900 900 900" "$(awk '/^Uid/ {print $2, $3, $4, $5}' /proc/$(backend_pid)/status)" "its user"
same "0000000000000000 0000000000000000" "$(awk '/^Cap(Eff|Prm)/ {print $2}' /proc/$(backend_pid)/status | xargs)" "its capabilities"
guest_create u1 "vdev=xvda,access=w,target=$d1"
same "$(sum d1)" "$(disk_sum u1 xvda)" checksum
exercise u1 xvda all
same "$(sum d1)" "$(disk_sum u1 xvda)" "checksum after writing"
# An image that it may not open: the same message in the log and the error node.
xl block-attach u1 "format=raw,vdev=xvdb,access=w,script=block-causeway,target=$d2" || true
denied() { node /local/domain/0/error/backend/vbd/$(id_of u1)/51728/error | grep -q "$d2.*Permission denied"; }
within 20 denied
same 1 "$(count "$d2.*Permission denied" <$logs/backend.log)" "messages"
xl block-detach u1 xvdb || xl block-detach u1 xvdb force
# It dies and returns, still as nobody in particular.
backend_kill KILL
backend_start
within 20 said "taken over"
same "$(sum d1)" "$(disk_sum u1 xvda)" "checksum after its return"
guest_destroy u1
nothing_left
backend_kill TERM
chown root /dev/xen/evtchn /dev/xen/gntdev /run/xenstored/socket

user=
rm -rf /run/causeway
backend_start
# CAP_DAC_OVERRIDE 1, CAP_NET_ADMIN 12, CAP_IPC_LOCK 14.
same "0000000000005002 0000000000005002 0000000000005002" "$(awk '/^Cap(Eff|Prm|Bnd)/ {print $2}' /proc/$(backend_pid)/status | xargs)" "root's capabilities"
same 1 "$(awk '/^NoNewPrivs/ {print $2}' /proc/$(backend_pid)/status)" "no new privileges"
