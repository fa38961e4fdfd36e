# Every offload of the guest's off and on, every feature of ours refused, two queues: the same bytes each time.

. /lab/net.sh
bridge_up
netback_start
serve 2
vcpus=2 net_guest u1 2
same 2 "$(node /local/domain/$(id_of u1)/device/vif/0/multi-queue-num-queues)" queues
fetches u1
gives u1 2 2
for off in "tso off" "tx off sg off" "gso off gro off" "rx off"; do
  guest u1 "ethtool -K eth0 $off 2>&1; true"
  fetches u1
  gives u1 2 2
done
guest u1 'ethtool -K eth0 rx on tx on sg on tso on gso on 2>&1; true'
fetches u1
# Connected means by both queues.
grep -q 'connected: .*2 queues' $logs/backend.log || fail "not by two queues"
guest_destroy u1
for arguments in "--no-sg --no-split" "--no-csum4 --no-csum6 --vif-queues 1"; do
  backend_kill TERM
  netback_start $arguments
  net_guest u1 2
  pings u1 56 1473 9000
  fetches u1
  gives u1 2 2
  guest_destroy u1
done
serve_end
sleep 1
no_vifs_left
bridge_down
