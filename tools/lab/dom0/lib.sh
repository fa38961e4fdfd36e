# The scenarios' words. POSIX sh, run in dom0.
set -eu
logs=/log
mkdir -p $logs

fail() { echo "lab: $*"; exit 1; }
# A line for whoever started the lab to read.
note() { echo "LAB note $*"; }
# same WANTED FOUND [WHAT]
same() { [ "$1" = "$2" ] || fail "${3:-}: expected '$1', found '$2'"; }
# within SECONDS COMMAND…: until it succeeds
within() {
  # Patience for a busy machine: in emulation a second is not a second.
  local left=$(($1 * 15)); shift
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ $left -gt 0 ] || fail "not in time: $*"
    sleep 0.2
  done
}
node() { xenstore-read "$1" 2>/dev/null || true; }
node_is() { [ "$(node "$1")" = "$2" ]; }

# ---- our backend
# backend_start [ARGUMENT…]: in dom0
backend_start() {
  : >>$logs/backend.log
  before=$(grep -c serving $logs/backend.log || true)
  causeway backend --xen "$@" >>$logs/backend.log 2>&1 &
  echo $! >/run/backend.pid
  within 20 backend_ready $((before + 1))
}
backend_ready() { [ "$(grep -c serving $logs/backend.log)" -ge $1 ]; }
backend_pid() { cat /run/backend.pid; }
backend_alive() { kill -0 "$(backend_pid)" 2>/dev/null; }
# backend_kill SIGNAL
backend_kill() { kill -"$1" "$(backend_pid)"; wait "$(backend_pid)" 2>/dev/null || true; }

# ---- disks
# disk NAME MEGABYTES: a file of random bytes, its path in $NAME
disk() {
  dd if=/dev/urandom of=/tmp/$1.img bs=1M count=$2 2>/dev/null
  eval "$1=/tmp/$1.img"
}
sum() { eval "md5sum \$$1" | cut -d' ' -f1; }

# ---- guests
# guest_create NAME DISK…: `type`, `memory`, `vcpus`, `image`, `modules`, `extra` may be set. A DISK is xl's, without format and script.
guest_create() {
  local name=$1 disks= spec; shift
  for spec in "$@"; do
    case $spec in *script=*) ;; *) spec="$spec,script=block-causeway" ;; esac
    disks="$disks'format=raw,${spec%%,target=*},target=${spec##*,target=}',"
  done
  # `target` takes the rest of the line, so it comes last.
  disks=$(echo "$disks" | sed "s/,target=\([^',]*\),script=\([^',]*\)'/,script=\2,target=\1'/g")
  cat >/tmp/$name.cfg <<CFG
name="$name"
type="${type:-pv}"
kernel="/boot/vmlinuz"
ramdisk="/boot/${image:-guest}.cpio.gz"
memory=${memory:-256}
vcpus=${vcpus:-1}
extra="console=hvc0 quiet modules=${modules:-xen-blkfront,ext4,crc32c_generic} ${extra:-}"
disk=[$disks]
on_crash="destroy"
${more:-}
CFG
  xl create -q /tmp/$name.cfg || fail "xl create $name"
  within 100 guest_up $name
}
id_of() { xl domid "$1"; }
guest_up() { node_is /local/domain/$(id_of $1)/data/lab/up 1; }
guest_done() { node_is /local/domain/$1/data/lab/done $2; }
# guest_start NAME COMMAND…: does not wait; its number is in $number
guest_start() {
  local home=/local/domain/$(id_of $1)/data/lab; shift
  number=$(($(node $home/number || echo 0) + 1))
  xenstore-write $home/command "$*"
  xenstore-write $home/number $number
}
# guest_wait NAME [SECONDS]: for the last command; prints what it printed; its status
guest_wait() {
  local id=$(id_of $1)
  within ${2:-120} guest_done $id "$(node /local/domain/$id/data/lab/number)"
  # The store's tools write newlines as \n.
  printf '%b\n' "$(node /local/domain/$id/data/lab/output)"
  return $(node /local/domain/$id/data/lab/status)
}
# guest NAME COMMAND…: runs it in the guest
guest() { guest_start "$@"; guest_wait "$1"; }
guest_destroy() { xl destroy "$1"; }

# ---- the end
# What must be so after each scenario that ends its guests itself.
nothing_left() {
  same "" "$(xenstore-list /local/domain/0/backend/vbd 2>/dev/null || true)" "backend directories left"
}
finish() { :; }
show_logs() {
  for file in $logs/*.log /var/log/xen/console/guest-*.log; do
    [ -s "$file" ] || continue
    echo "---- $file"; tail -60 "$file"
  done
}
clean_up() {
  set +e
  for name in $(xl list | awk 'NR > 2 {print $1}'); do xl destroy "$name"; done
  [ ! -e /run/backend.pid ] || { kill -9 "$(backend_pid)" 2>/dev/null; rm -f /run/backend.pid; }
  sleep 0.5
  losetup -a | cut -d: -f1 | while read -r device; do losetup -d "$device"; done
  rm -rf /tmp/* $logs/* /var/log/xen/console/* /run/causeway
  xenstore-rm /local/domain/0/backend 2>/dev/null
  xenstore-rm /local/domain/0/error 2>/dev/null
}
