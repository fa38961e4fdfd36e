# An NVMe controller in dom0 reads and writes a guest's pages by their machine frames, no byte copied; kill -9 under I/O leaves nothing behind.
# Machine: nvme

nvme_to uio_pci_generic
none_copied() {
  causeway metrics >/tmp/metrics
  note "$(sed -n 's/^causeway_vbd_\(requests_total\|read_bytes_total\|written_bytes_total\|grants_for_disk_total\|dma_maps_total\){.*} /\1 /p' /tmp/metrics | tr '\n' ',')"
  same 0 "$(awk '/^causeway_vbd_(bounced|unmappable|failed|rejected)/ {sum += $NF} END {print sum + 0}' /tmp/metrics)" "pieces copied, or refused"
}
# written GUEST: all of the disk, and read back
written() {
  guest $1 'dd if=/dev/urandom of=/dev/xvda bs=128k oflag=direct 2>&1 | grep -iv records; sync' || true
  exercise $1 xvda
}

# Grants that stay mapped, here and for the controller.
backend_start
guest_create u1 "vdev=xvda,access=w,target=nvme:$nvme"
said "$nvme: machine frames" || fail "the way to memory was not said"
written u1
none_copied
[ "$(metric vbd_persistent_grants)" -gt 0 ] || fail "no grants were kept"
note "pins with grants that are kept: $(device_pins)"
sum=$(disk_sum u1 xvda)
backend_kill TERM
within 20 no_pins

# The next backend maps for the controller alone: of the guest's pages dom0 has the ring.
backend_start --no-persistent
taken_over() { [ "$(count 'taken over' <$logs/backend.log)" = $1 ]; }
within 20 taken_over 1
same "$sum" "$(disk_sum u1 xvda)" "through another backend"
guest_destroy u1
nothing_left
guest_create u2 "vdev=xvda,access=w,target=nvme:$nvme"
guest_start u2 'until xenstore-exists data/lab/stop; do dd if=/dev/xvda of=/dev/null bs=128k iflag=direct 2>/dev/null || exit 1; done'
more() { [ "$(metric vbd_requests_total)" -gt 200 ]; }
within 60 more
same 1 "$(mappings)" "mappings of the guest's pages in the backend, the ring's apart"
[ "$(metric vbd_grants_for_disk_total)" -gt 200 ] || fail "grants for the controller alone: $(metric vbd_grants_for_disk_total)"
guest_stop u2; guest_wait u2
written u2
none_copied
sum=$(disk_sum u2 xvda)
guest_destroy u2
nothing_left
backend_kill TERM
no_pins || fail "pages that a device reaches after the end: $(device_pins)"

# The kernel's own driver finds the same.
same "$sum" "$(nvme_sum)" "what the kernel's driver reads"
nvme_to uio_pci_generic

# Killed under I/O. Xen keeps the pages for the controller until a successor has stopped it.
for arguments in "" --no-persistent; do
  backend_start $arguments
  before=$(count 'taken over' <$logs/backend.log) left=$(count 'left by a backend' <$logs/backend.log)
  guest_create u3 "vdev=xvda,access=w,target=nvme:$nvme"
  guest u3 '/sbin/mke2fs -q -t ext4 /dev/xvda && mount -t ext4 /dev/xvda /mnt && dd if=/dev/urandom of=/tmp/pattern bs=64k count=48 2>/dev/null'
  guest_start u3 'writers=; for w in 1 2 3 4; do (until xenstore-exists data/lab/stop; do dd if=/tmp/pattern of=/mnt/f$w bs=16k conv=fsync 2>/dev/null || exit 1; done) & writers="$writers $!"; done
    for writer in $writers; do wait $writer || exit 1; done; sync; echo 3 >/proc/sys/vm/drop_caches; for f in /mnt/f*; do cmp /tmp/pattern $f || exit 1; done'
  for round in 1 2; do
    seen=$(metric vbd_requests_total)
    more() { [ "$(metric vbd_requests_total)" -gt $((${seen:-0} + 100)) ]; }
    within 120 more
    backend_kill KILL
    pins=$(device_pins)
    [ "$pins" -gt 0 ] || fail "no pins after the kill"
    backend_start $arguments
    within 60 taken_over $((before + round))
    note "killed with $pins pins; $(grep 'left by a backend' $logs/backend.log | tail -1)"
    same $((left + round)) "$(count 'left by a backend' <$logs/backend.log)" "predecessors whose pages were ended"
  done
  seen=$(metric vbd_requests_total)
  within 120 more
  guest_stop u3
  guest_wait u3 600
  guest u3 'dmesg | grep -iE "I/O error|xvda.*error|ext4.*error"' && fail "the guest saw an error"
  guest u3 'umount /mnt && /sbin/e2fsck -fn /dev/xvda'
  none_copied
  sum=$(disk_sum u3 xvda)
  guest_destroy u3
  nothing_left
  backend_kill TERM
  no_pins || fail "pages that a device reaches after the end: $(device_pins)"
  same "$sum" "$(nvme_sum)" "what the kernel's driver reads after the kills"
  nvme_to uio_pci_generic
done

# What is in the way is said in a line, and mended by it.
nvme_to nvme
backend_start
guest_create u4
xl block-attach u4 "format=raw,vdev=xvda,access=w,script=block-causeway,target=nvme:$nvme" || true
refused() { said "vbd .*is driven by nvme"; }
within 20 refused
note "$(grep 'is driven by nvme' $logs/backend.log | tail -1 | cut -c1-200)"
xl block-detach u4 xvda || true
guest_destroy u4
