# The scenarios' words. POSIX sh, run in dom0. Nothing here waits by the clock: what is waited for is a condition, asked for again and again,
# with a limit that only a failure reaches. In emulation, on a busy machine, a second is not a second.
set -eu
logs=/log
mkdir -p $logs

fail() { echo "lab: $*"; exit 1; }
# A line for whoever started the lab to read.
note() { echo "LAB note $*"; }
# same WANTED FOUND [WHAT]
same() { [ "$1" = "$2" ] || fail "${3:-}: expected '$1', found '$2'"; }
uptime_seconds() { cut -d. -f1 /proc/uptime; }
# Emulated, on a busy machine, everything may take so many times as long as it should.
patience=$(sed -n 's/.*patience=\([0-9]*\).*/\1/p' /proc/cmdline)
patience=${patience:-5}
# within SECONDS COMMAND…: until it succeeds
within() {
  local end=$(($(uptime_seconds) + $1 * patience)); shift
  until "$@" >/dev/null 2>&1; do
    [ "$(uptime_seconds)" -lt $end ] || fail "not in time: $*"
    # What can no longer come is not waited for.
    [ ! -e /run/backend.pid ] || backend_alive || fail "the backend is gone, while waiting for: $*"
    sleep 0.1
  done
}
node() { xenstore-read "$1" 2>/dev/null || true; }
node_is() { [ "$(node "$1")" = "$2" ]; }
# node_comes PATH VALUE SECONDS: as `within`, but asleep until the node changes: a waiting dom0 leaves the processors to the guests.
node_comes() {
  local end=$(($(uptime_seconds) + $3 * patience))
  until node_is "$1" "$2"; do
    [ "$(uptime_seconds)" -lt $end ] || return 1
    # Another way out than a watch that comes: the domain is no more.
    xenstore-exists "${1%/data/*}" || return 1
    timeout 1 xenstore-watch -n 2 "$1" >/dev/null 2>&1 || true
  done
}
# count PATTERN: of lines on standard input; none is no failure
count() { grep -c "$@" || true; }

# ---- our backend
# backend_start [ARGUMENT…]: in dom0; as the user that `user` names
backend_start() {
  local before
  : >>$logs/backend.log
  before=$(count serving <$logs/backend.log)
  if [ -n "${user:-}" ]; then
    su $user -c "exec causeway backend --xen $*" >>$logs/backend.log 2>&1 &
  else
    causeway backend --xen "$@" >>$logs/backend.log 2>&1 &
  fi
  echo $! >/run/backend.pid
  within 60 backend_ready $((before + 1))
}
backend_ready() { [ "$(count serving <$logs/backend.log)" -ge $1 ]; }
backend_pid() { cat /run/backend.pid; }
backend_alive() { [ -e /proc/"$(backend_pid)"/fd/0 ]; }
# backend_kill SIGNAL
backend_kill() {
  local pid=$(backend_pid)
  rm /run/backend.pid
  kill -"$1" "$pid"; wait "$pid" 2>/dev/null || true
}
# What the backend has of its frontends: pages of theirs, and descriptors of channels to them.
mappings() { count gntdev </proc/$(backend_pid)/maps; }
channels() { ls -l /proc/$(backend_pid)/fd | count xen/evtchn; }
holds() { [ "$(mappings) $(channels)" = "$1 $2" ]; }
# metric NAME: a number of its one disk's or interface's, as whoever watches this backend sees it
metric() { causeway metrics | sed -n "s/^causeway_$1{.*} //p"; }
said() { grep -q -- "$1" $logs/backend.log; }

# ---- disks
# disk NAME MEGABYTES: a file of random bytes, its path in $NAME
disk() {
  dd if=/dev/urandom of=/tmp/$1.img bs=1M count=$2 2>/dev/null
  eval "$1=/tmp/$1.img"
}
sum() { eval "md5sum \$$1" | cut -d' ' -f1; }
requests_of() { awk '{print $1 + $5}' /sys/block/$1/stat; }
# io_goes_on BLOCK-DEVICE: until it has done some more
io_goes_on() {
  local before=$(requests_of $1)
  more() { [ $(requests_of $1) -ge $(($before + 20)) ]; }
  within 60 more $1
}

# ---- an NVMe controller, at $nvme
nvme=0000:00:05.0
# nvme_to DRIVER: gives it to a driver of the kernel's
nvme_to() {
  local device=/sys/bus/pci/devices/$nvme
  modprobe $1
  echo $1 >$device/driver_override
  [ ! -e $device/driver ] || echo $nvme >$device/driver/unbind
  echo $nvme >/sys/bus/pci/drivers_probe
  same $1 "$(basename "$(readlink $device/driver)")" "driver of $nvme"
}
# The checksum of what the kernel's own driver finds on it.
nvme_sum() {
  nvme_to nvme
  within 20 test -b /dev/nvme0n1
  md5sum /dev/nvme0n1 | cut -d' ' -f1
}
# Pages that devices reach, by Xen's own word: pins of the upper kinds in its list of grants.
device_pins() {
  xl dmesg -c >/dev/null
  xl debug-keys g
  # The last line of the list.
  within 20 sh -c 'xl dmesg | grep -q "gnttab_usage_print_all ] done"'
  xl dmesg | grep -E '\[0x[0-9a-f]+\] +[0-9]+ +0x[0-9a-f]+ +0x[0-9a-f]{8}' | count -vE '\] +[0-9]+ +0x[0-9a-f]+ +0x0000'
}
no_pins() { [ "$(device_pins)" = 0 ]; }

# ---- guests
# guest_create NAME DISK…: `type`, `memory`, `vcpus`, `image`, `modules`, `extra`, `more` may be set. A DISK is xl's, without format and script.
guest_create() {
  local name=$1 disks= spec; shift
  for spec in "$@"; do
    case $spec in *script=* | *backendtype=*) ;; *) spec="$spec,script=block-causeway" ;; esac
    disks="$disks'format=raw,${spec%%,target=*},target=${spec##*,target=}',"
  done
  # `target` takes the rest of the line, so it comes last.
  disks=$(echo "$disks" | sed "s/,target=\([^',]*\),\([^']*\)'/,\2,target=\1'/g")
  cat >/tmp/$name.cfg <<CFG
name="$name"
type="${type:-pv}"
kernel="/boot/vmlinuz"
ramdisk="/boot/${image:-guest}.cpio"
memory=${memory:-256}
vcpus=${vcpus:-1}
extra="console=hvc0 quiet modules=${modules:-xen-blkfront,ext4,crc32c_generic} ${extra:-}"
disk=[$disks]
on_crash="destroy"
${more:-}
CFG
  xl create -q /tmp/$name.cfg || fail "xl create $name"
  node_comes /local/domain/$(id_of $name)/data/lab/up 1 120 || fail "guest $name did not come up"
}
id_of() { xl domid "$1"; }
# guest_start NAME COMMAND…: does not wait
guest_start() {
  local home=/local/domain/$(id_of $1)/data/lab; shift
  xenstore-rm $home/stop 2>/dev/null || true
  xenstore-write $home/command "$*" $home/number $(($(node $home/number || echo 0) + 1))
}
# guest_stop NAME: the word for a command that goes on `until stopped`
guest_stop() { xenstore-write /local/domain/$(id_of $1)/data/lab/stop 1; }
# guest_wait NAME [SECONDS]: for the last command; prints what it printed; its status
guest_wait() {
  local home=/local/domain/$(id_of $1)/data/lab
  node_comes $home/done "$(node $home/number)" ${2:-120} || fail "guest $1 did not finish: $(node $home/command)"
  # The store's tools write newlines as \n.
  printf '%b\n' "$(node $home/output)"
  return $(node $home/status)
}
# guest NAME COMMAND…: runs it in the guest
guest() { guest_start "$@"; guest_wait "$1"; }
guest_destroy() { xl destroy "$1"; }
# attach GUEST DISK NUMBER NAME: a DISK with its vdev and access, until the guest has it. detach GUEST NUMBER NAME
attach() {
  local id=$(id_of $1) spec=$2
  xl block-attach $1 "format=raw,script=block-causeway,$spec" || fail "xl block-attach $1 $spec"
  within 40 node_is /local/domain/0/backend/vbd/$id/$3/state 4
  # The guest's kernel makes its device a moment later.
  guest $1 "for i in \$(seq 200); do [ -b /dev/$4 ] && exit 0; sleep 0.1; done; exit 1" || fail "guest $1 has no $4"
}
detach() {
  xl block-detach $1 $3 || fail "xl block-detach $1 $3"
  within 40 no_node /local/domain/0/backend/vbd/$(id_of $1)/$2/state
}
no_node() { [ -z "$(node $1)" ]; }
# disk_sum GUEST DEVICE: of what is on the disk, not in the guest's cache
disk_sum() { guest $1 "echo 3 >/proc/sys/vm/drop_caches; md5sum /dev/$2 | cut -d' ' -f1"; }
# exercise GUEST DEVICE [all]: in the guest a file system is made, filled, checked, remounted and compared; with `all` flushes and discards
# must have been done.
exercise() {
  guest $1 "set -e; /sbin/mke2fs -q -t ext4 -E discard /dev/$2; mount -t ext4 -o discard /dev/$2 /mnt; cd /mnt
    for i in 1 2 3 4; do dd if=/dev/urandom of=f\$i bs=64k count=20 conv=fsync 2>/dev/null; done; md5sum f* >sums; sync; rm f4; sync
    cd /; umount /mnt; echo 3 >/proc/sys/vm/drop_caches; /sbin/e2fsck -fn /dev/$2
    mount -t ext4 /dev/$2 /mnt; cd /mnt; grep -v f4 sums | md5sum -c; cd /; umount /mnt; cat /sys/block/$2/stat" >/tmp/exercised ||
    fail "in $1: $(cat /tmp/exercised)"
  # Fields of Documentation/block/stat.rst, from 1: 12 discards, 16 flushes.
  [ -z "${3:-}" ] || tail -1 /tmp/exercised | awk '{exit !($12 > 0 && $16 > 0)}' || fail "no flush or no discard: $(tail -1 /tmp/exercised)"
}

# ---- our frontend, in a guest of the image `driver`
# frontend_start GUEST [ARGUMENT…]: on xvda, until its NBD socket is there
frontend_start() {
  local name=$1; shift
  guest $name "echo 8192 >/sys/module/xen_gntalloc/parameters/limit; (causeway frontend vbd xvda --xen $* --nbd /tmp/nbd >/tmp/frontend.log 2>&1 & echo \$! >/tmp/pid)
    for i in \$(seq 600); do [ -S /tmp/nbd ] && exit 0; [ -e /proc/\$(cat /tmp/pid) ] || break; sleep 0.1; done; cat /tmp/frontend.log; exit 1" ||
    fail "the frontend did not start"
}
frontend_stop() { guest $1 'kill $(cat /tmp/pid); for i in $(seq 300); do [ -e /proc/$(cat /tmp/pid) ] || exit 0; sleep 0.1; done; exit 1' || fail "the frontend does not end"; }
# A socket is there a moment before anybody listens.
nbd_sum() { guest $1 "for i in \$(seq 50); do nbdcopy nbd+unix:///?socket=/tmp/nbd /tmp/copy 2>/tmp/error && break; grep -q refused /tmp/error || break; sleep 0.1; done; cat /tmp/error
  md5sum /tmp/copy | cut -d' ' -f1"; }
# Writes the whole disk, 16 MB, with new bytes, reads it back and compares; three times.
nbd_verify() {
  guest $1 'for i in 1 2 3; do dd if=/dev/urandom of=/tmp/new bs=1M count=16 2>/dev/null; nbdcopy --flush /tmp/new nbd+unix:///?socket=/tmp/nbd &&
    nbdcopy nbd+unix:///?socket=/tmp/nbd /tmp/copy && cmp /tmp/new /tmp/copy || exit 1; done' || fail "verify in $1"
}

# ---- the end
# What must be so after each scenario that ends its guests itself.
nothing_left() {
  nothing_there() { [ -z "$(xenstore-list /local/domain/0/backend/vbd 2>/dev/null)" ]; }
  within 20 nothing_there
}
no_journals() { ! ls /run/causeway 2>/dev/null | grep -q journal; }
finish() { :; }
show_logs() {
  for file in $logs/*.log /var/log/xen/console/guest-*.log /var/log/xen/qemu-*.log; do
    [ -s "$file" ] || continue
    echo "---- $file"; tail -60 "$file"
  done
}
domains() { xl list | awk 'NR > 2 {print $1}'; }
clean_up() {
  set +e
  for name in $(domains); do xl destroy "$name"; done
  if [ -e /run/backend.pid ]; then kill -9 "$(backend_pid)" 2>/dev/null; rm -f /run/backend.pid; fi
  tries=0; while [ -n "$(domains)" ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
  losetup -a | cut -d: -f1 | while read -r device; do losetup -d "$device"; done
  rm -rf /tmp/* $logs/* /var/log/xen/console/* /var/log/xen/*.log /run/causeway
  xenstore-rm /local/domain/0/backend 2>/dev/null
  xenstore-rm /local/domain/0/error 2>/dev/null
  # The next scenario must find what this one found.
  [ -z "$(domains)" ]
}
