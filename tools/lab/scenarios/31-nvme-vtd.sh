# The same behind an IOMMU to which Xen holds dom0: nothing faults, until the controller is made to go on with pages whose grants have ended.
# By name only: the emulated IOMMU is slow.
# Machine: nvme vtd

# The device's accesses that Xen has had to refuse.
faults() { xl dmesg | count 'VT-D\]DMAR:.*Request device'; }

xl info | grep -q 'virt_caps.*directio' || fail "Xen has no IOMMU: $(xl info | grep virt_caps)"
nvme_to uio_pci_generic
backend_start --no-persistent
guest_create u1 "vdev=xvda,access=w,target=nvme:$nvme"
guest u1 'dd if=/dev/urandom of=/tmp/pattern bs=1M count=8 2>/dev/null; dd if=/tmp/pattern of=/dev/xvda bs=128k oflag=direct 2>/dev/null; echo 3 >/proc/sys/vm/drop_caches
  head -c 8388608 /dev/xvda | cmp - /tmp/pattern'
[ "$(metric vbd_grants_for_disk_total)" -gt 1000 ] || fail "grants for the controller alone: $(metric vbd_grants_for_disk_total)"
same 0 "$(faults)" "faults in the run"

# Killed while the guest reads. The kernel has taken the controller off the bus; it is put on again, and told of commands that it had before.
# By way of the guest's cache, so that each command has pages of its own.
guest_start u1 'until xenstore-exists data/lab/stop; do echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/xvda of=/dev/null bs=128k count=64 2>/dev/null || exit 1; done'
more() { [ "$(metric vbd_requests_total)" -gt 300 ]; }
within 60 more
backend_kill KILL
same 0 "$(faults)" "faults with the kill"
# Clears Xen's log.
pins=$(device_pins)
device=/sys/bus/pci/devices/$nvme
printf '\006\004' | dd of=$device/config bs=1 seek=4 conv=notrunc 2>/dev/null
registers=$(sed -n '1s/ .*//p' $device/resource)
# The tail of the first pair's submission queue: all of its old commands.
devmem $((registers + 0x1008)) 32 60
devmem $((registers + 0x1008)) 32 50
faulted() { [ "$(faults)" -gt 0 ]; }
within 20 faulted
note "killed with $pins pins; late accesses: $(faults), as: $(xl dmesg | grep 'VT-D\]DMAR:.*Request device' | tail -1 | cut -c1-120)"
backend_start --no-persistent
taken_over() { [ "$(count 'taken over' <$logs/backend.log)" = 1 ]; }
within 60 taken_over
same 1 "$(count 'left by a backend' <$logs/backend.log)" "predecessors whose pages were ended"
guest_stop u1; guest_wait u1 300
guest u1 'echo 3 >/proc/sys/vm/drop_caches; head -c 8388608 /dev/xvda | cmp - /tmp/pattern'
guest_destroy u1
nothing_left
backend_kill TERM
no_pins || fail "pages that a device reaches after the end: $(device_pins)"
