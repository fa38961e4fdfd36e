# The same guest with persistent grants and indirect descriptors refused, then each alone.

for arguments in "--no-persistent --segments 11" "--no-persistent" "--segments 11 --no-flush --no-discard --no-barrier"; do
  backend_start $arguments
  disk d1 8
  guest_create u1 "vdev=xvda,access=w,target=$d1"
  be=/local/domain/0/backend/vbd/$(id_of u1)/51712
  case $arguments in
    *--no-persistent*) same 0 "$(node $be/feature-persistent)" "persistent" ;;
    *) same 1 "$(node $be/feature-persistent)" "persistent" ;;
  esac
  case $arguments in
    *--segments*) same "" "$(node $be/feature-max-indirect-segments)" "indirect" ;;
    *) same 256 "$(node $be/feature-max-indirect-segments)" "indirect" ;;
  esac
  case $arguments in *--no-flush*) same 00 "$(node $be/feature-flush-cache)$(node $be/feature-discard)" "flush and discard" ;; esac
  same "$(sum d1)" "$(guest u1 "md5sum /dev/xvda | cut -d' ' -f1")" "checksum"
  guest u1 '/sbin/mke2fs -q -t ext4 /dev/xvda && mount -t ext4 /dev/xvda /mnt && dd if=/dev/urandom of=/mnt/f bs=64k count=60 2>/dev/null && sync && umount /mnt && e2fsck -fn /dev/xvda'
  same "$(sum d1)" "$(guest u1 "md5sum /dev/xvda | cut -d' ' -f1")" "checksum after writing"
  guest_destroy u1
  sleep 1
  nothing_left
  backend_kill TERM
done
