# The network scenarios' words, beside lib.sh's. dom0 is 10.9.0.1 and fd09::1 on bridge br0, guests are 10.9.0.2 and so on.
bridge=10.9.0.1
www=/tmp/www

bridge_up() {
  modprobe tun; modprobe bridge
  # What a scenario that failed has left.
  if [ -e /sys/class/net/br0 ]; then bridge_down; fi
  if [ -e /run/httpd.pid ]; then serve_end; fi
  echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
  brctl addbr br0
  ip addr add $bridge/24 dev br0
  ip -6 addr add fd09::1/64 dev br0
  ip link set br0 up
}
bridge_down() { ip link set br0 down; brctl delbr br0; }

# netback_start [ARGUMENT…]: our backend, interfaces only. The store's disks stay the kernel's or nobody's.
netback_start() {
  : >>$logs/backend.log
  netbacks=$(grep -c 'netback: serving' $logs/backend.log || true)
  causeway backend --xen --backend-kind none "$@" >>$logs/backend.log 2>&1 &
  echo $! >/run/backend.pid
  within 20 netback_ready $((netbacks + 1))
}
netback_ready() { [ "$(grep -c 'netback: serving' $logs/backend.log)" -ge $1 ]; }

# net_guest NAME NUMBER [VIF]: a guest with one interface, 10.9.0.NUMBER; VIF is xl's.
net_guest() {
  more="vif=['${3:-mac=00:16:3e:09:00:0$2,bridge=br0}']" modules=${modules:-xen-netfront} guest_create $1
  net_address $1 $2
}
# net_address NAME NUMBER [INTERFACE]
net_address() {
  local interface=${3:-eth0}
  guest $1 "for i in \$(seq 50); do [ -e /sys/class/net/$interface ] && break; sleep 0.2; done; echo 0 >/proc/sys/net/ipv6/conf/$interface/accept_dad; ip addr add 10.9.0.$2/24 dev $interface && ip -6 addr add fd09::$2/64 dev $interface && ip link set $interface up"
  # The first packets wait for the carrier.
  guest $1 "for i in \$(seq 30); do ping -c 1 -W 1 $bridge >/dev/null && break; done; ping -c 1 -W 2 $bridge"
}

# pings NAME [SIZE…]: from the guest, over IPv4 and IPv6, none lost. Busybox's ping waits for the last answer no longer than twice the
# slowest one took, which a busy emulation exceeds; so each size has three tries.
pings() {
  local name=$1; shift
  [ $# -gt 0 ] || set -- 0 1 56 1472 1473 4000 9000 65507
  guest $name "pinged() { for try in 1 2 3; do ping -c 2 -W 5 \"\$@\" > /tmp/p; grep -q '2 packets received' /tmp/p && return; done; echo \"ping \$*: \$(cat /tmp/p)\"; return 1; }; for s in $*; do pinged -s \$s $bridge || exit 1; done; for s in 56 1452 8000; do pinged -6 -s \$s fd09::1 || exit 1; done"
}

# serve MEGABYTES: random bytes at http://10.9.0.1:8080/file; their checksum in $served
serve() {
  mkdir -p $www
  dd if=/dev/urandom of=$www/file bs=1M count=$1 2>/dev/null
  served=$(md5sum <$www/file | cut -d' ' -f1)
  [ -e /run/httpd.pid ] || { httpd -f -p 8080 -h $www & echo $! >/run/httpd.pid; }
}
serve_end() { kill "$(cat /run/httpd.pid)" 2>/dev/null; rm -f /run/httpd.pid; }
# fetches NAME [ADDRESS]: the guest gets the file whole
fetches() { same "$served" "$(guest $1 "wget -q -O - http://${2:-$bridge}:8080/file | md5sum | cut -d' ' -f1")" "file to $1"; }
# gives NAME NUMBER MEGABYTES: dom0 gets a file from the guest whole
gives() {
  guest $1 "mkdir -p /tmp/www; dd if=/dev/urandom of=/tmp/www/file bs=1M count=$3 2>/dev/null; pidof httpd >/dev/null || httpd -p 8080 -h /tmp/www"
  same "$(guest $1 "md5sum </tmp/www/file | cut -d' ' -f1")" "$(wget -q -O - http://10.9.0.$2:8080/file | md5sum | cut -d' ' -f1)" "file from $1"
}
no_vifs_left() {
  same "" "$(xenstore-list /local/domain/0/backend/vif 2>/dev/null || true)" "vif directories left"
  same "" "$(ls /sys/class/net | grep -v -e lo -e br0 || true)" "interfaces left"
}
