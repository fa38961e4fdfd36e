# Linux's netfront in a PV guest on our netback in dom0, placed by Debian's vif-bridge: ping of every kind of size, HTTP both ways.

. /lab/net.sh
bridge_up
netback_start
net_guest u1 2
be=/local/domain/0/backend/vif/$(id_of u1)/0
fe=/local/domain/$(id_of u1)/device/vif/0
same 4 "$(node $be/state)" "backend state"
same connected "$(node $be/hotplug-status)" "hot-plug status"
[ -e /sys/class/net/br0/brif/vif$(id_of u1).0 ] || fail "the tap is not in the bridge"
same 1 "$(node $be/feature-gso-tcpv4)" "large packets"
pings u1
serve 8
fetches u1
fetches u1 '[fd09::1]'
gives u1 2 8
[ "$(metric vif_transmitted_bytes_total)" -gt 8000000 ] || fail "bytes from the guest: $(causeway metrics | grep bytes)"
same 0 "$(metric vif_transmit_errors_total)" "frames answered with an error"
backend_alive || fail "the backend is gone"
serve_end
guest_destroy u1
sleep 1
no_vifs_left
same "" "$(ls /run/causeway | grep journal || true)" "journals left"
bridge_down
