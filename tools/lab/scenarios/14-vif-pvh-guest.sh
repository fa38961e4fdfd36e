# The same from a PVH guest: it never sees machine frames.

. /lab/net.sh
bridge_up
netback_start
type=pvh net_guest u1 2
pings u1
serve 4
fetches u1
gives u1 2 4
serve_end
guest_destroy u1
sleep 1
no_vifs_left
bridge_down
