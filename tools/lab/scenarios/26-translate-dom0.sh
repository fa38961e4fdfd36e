# dom0 reads its own p2m while it runs and backs a guest's disk: every page agrees with Xen's own table, foreign ones are told from its own.

says() { grep -q "$1" /tmp/said || { cat /tmp/said; fail "$2: not said: $1"; }; }
good() { causeway translate "$@" >/tmp/said 2>&1 || { cat /tmp/said; fail "translate $*"; }; }

good 0 --check --machine
cat /tmp/said
says '^check       good' "dom0's table against Xen's own"
note "$(grep '^pages' /tmp/said)"
# The kernel's text by pfn and by machine frame.
good 0 pfn 0x1000+0x2000 --contents /tmp/by-pfn
sed -n 's/^p0x[0-9a-f]* is m\(0x[0-9a-f]*\) for \([0-9]*\) pages.*/mfn \1+\2/p; s/^p0x[0-9a-f]* is m\(0x[0-9a-f]*\)$/mfn \1/p' /tmp/said >/tmp/questions
[ -s /tmp/questions ] || fail "no answers"
grep -q 'Linux version' /tmp/by-pfn || fail "the kernel's pages"
rm -f /tmp/by-pfn

# With a guest whose pages dom0 has mapped.
backend_start
disk d1 16
guest_create u1 "vdev=xvda,access=w,target=$d1"
same "$(sum d1)" "$(guest u1 "md5sum /dev/xvda | cut -d' ' -f1")"
good 0 --check --machine
says '^check       good' "dom0's table with foreign pages in it"
note "$(grep '^pages' /tmp/said)"
guest_destroy u1

# Who asks cannot stop himself.
! causeway translate 0 --pause >/tmp/said 2>&1 || fail "paused itself"
says 'domain 0 is this one and cannot be paused by itself' "the reason"
