# The same reads of one guest on our backend, the kernel's xen-blkback and QEMU's qdisk, in turns: requests a second and CPU time a request.
# By name only: it measures, and takes a while. Emulated: nothing but the ratios means anything.

# Disks in memory, because a loop device's own threads would do most of the work, for whom nobody would know.
modprobe brd rd_nr=3 rd_size=65536
disk d1 64
for n in 0 1 2; do dd if=$d1 of=/dev/ram$n bs=1M 2>/dev/null; done
rm $d1
# A directory of our own, since `vbd` is the kernel's here.
modprobe xen-blkback
causeway backend --xen --backend-kind causeway --vif-kind none --scripts ignore ${BACKEND_ARGUMENTS:-} >>$logs/backend.log 2>&1 &
echo $! >/run/backend.pid
within 60 said serving

memory=256 guest_create u1 "vdev=xvdb,access=w,script=block-plain,target=/dev/ram1" "vdev=xvdc,access=w,backendtype=qdisk,target=/dev/ram2"
id=$(id_of u1)
# What xl would write, under our own name.
be=/local/domain/0/backend/causeway/$id/51712 fe=/local/domain/$id/device/vbd/51712
# First who may read what, which what comes below inherits; the states last, for with them each side begins.
xenstore-write $be "" $fe ""
xenstore-chmod $be n0 r$id
xenstore-chmod $fe n$id r0
xenstore-write $be/frontend $fe $be/frontend-id $id $be/online 1 $be/removable 0 $be/bootable 1 $be/dev xvda $be/type phy $be/mode w \
  $be/device-type disk $be/discard-enable 1 $be/params /dev/ram0 $be/state 1
xenstore-write $fe/backend $be $fe/backend-id 0 $fe/virtual-device 51712 $fe/device-type disk $fe/state 1
guest u1 'for d in xvda xvdb xvdc; do for i in $(seq 600); do [ -b /dev/$d ] && break; sleep 0.1; done; md5sum /dev/$d; done' >/tmp/sums
same 1 "$(cut -d' ' -f1 /tmp/sums | sort -u | wc -l)" "different checksums: $(cat /tmp/sums)"

# Clock ticks of a process (10 ms), its threads and io_uring's included: fields 14 and 15 of its stat.
ticks_of() { sed 's/.*) //' /proc/$1/stat | awk '{print $12 + $13}'; }
process() { grep -l "$1" /proc/[0-9]*/$2 2>/dev/null | head -1 | cut -d/ -f3; }
ours=$(backend_pid) blkback=$(process "^$id.xvdb-0" comm) qdisk=$(process qemu-system-i386 cmdline)
[ -n "$blkback" ] || fail "no thread of blkback's: $(cat /proc/[0-9]*/comm | grep xvd)"
[ -n "$qdisk" ] || fail "no QEMU"
# All of dom0's time, interrupts and the event channels' work too: seconds as Xen has them
dom0_seconds() { xl list 0 | awk 'NR == 2 {print $NF}'; }

# job NAME BYTES DEPTH ORDER: five turns of the three; a line of medians each
job() {
  : >/tmp/turns
  for turn in 1 2 3 4 5; do
    for each in "ours xvda $ours" "blkback xvdb $blkback" "qdisk xvdc $qdisk"; do
      set -- "$1" "$2" "$3" "$4" $each
      ticks=$(ticks_of $7) all=$(dom0_seconds)
      guest u1 "load /dev/$6 5 $2 $3 $4" >/tmp/result
      ticks=$(($(ticks_of $7) - ticks))
      echo "$5 $(cat /tmp/result | xargs) $ticks $all $(dom0_seconds)" >>/tmp/turns
    done
  done
  for backend in ours blkback qdisk; do
    # name, requests, seconds, ticks, dom0 before and after
    rate=$(awk -v b=$backend '$1 == b {print $2 / $3}' /tmp/turns | sort -n | sed -n 3p)
    cpu=$(awk -v b=$backend '$1 == b {print $4 * 10000 / $2}' /tmp/turns | sort -n | sed -n 3p)
    all=$(awk -v b=$backend '$1 == b {print ($6 - $5) * 1000000 / $2}' /tmp/turns | sort -n | sed -n 3p)
    printf '%s|%s|%.0f|%.1f|%.1f\n' "$1" $backend $rate $cpu $all
  done >/tmp/medians
  awk -F'|' '$2 == "blkback" {r = $3; c = $4; a = $5} {line[NR] = $0; rate[NR] = $3; cpu[NR] = $4; all[NR] = $5}
    END {for (n = 1; n <= NR; n++) {split(line[n], f, "|");
      printf "LAB note | %s | %s | %d | %.2f | %.1f | %.2f | %.1f | %.2f |\n", f[1], f[2], f[3], rate[n] / r, f[4], cpu[n] / c, f[5], all[n] / a}}' /tmp/medians
  cat /tmp/turns
}
note "| job | backend | requests/s | to blkback's | backend CPU µs/request | to blkback's | all of dom0, µs/request | to blkback's |"
note "|---|---|--:|--:|--:|--:|--:|--:|"
job "random 4 KiB, depth 1" 4096 1 random
job "random 4 KiB, depth 16" 4096 16 random
job "sequential 64 KiB, depth 4" 65536 4 sequential
guest_destroy u1
