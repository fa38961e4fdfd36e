# xl network-attach and network-detach while the guest runs, a name of its own (vifname), a bridge that is not there.

. /lab/net.sh
bridge_up
netback_start
net_guest u1 2
id=$(id_of u1)
be=/local/domain/0/backend/vif/$id
xl network-attach u1 mac=00:16:3e:09:00:0c bridge=br0 vifname=second || fail "network-attach"
within 20 node_is $be/1/state 4
[ -e /sys/class/net/br0/brif/second ] || fail "no interface named second in the bridge"
# The first one steps aside, so that traffic takes the new one.
guest u1 'ip addr flush dev eth0; ip -6 addr flush dev eth0; ip link set eth0 down'
net_address u1 3 eth1
pings u1 56 9000
serve 2
fetches u1
xl network-detach u1 1 || fail "network-detach"
gone() { [ -z "$(node $be/1/state)" ]; }
within 20 gone
guest u1 'test ! -e /sys/class/net/eth1' || fail "the guest still has eth1"
[ ! -e /sys/class/net/second ] || fail "the tap is still there"
xl network-attach u1 mac=00:16:3e:09:00:0d bridge=nowhere && fail "attached to a bridge that is not there" || true
guest u1 'ip link set eth0 up'
net_address u1 4
pings u1 56 1473
fetches u1
serve_end
backend_alive || fail "the backend is gone"
guest_destroy u1
sleep 1
no_vifs_left
bridge_down
