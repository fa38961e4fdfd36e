# A PV guest dumped by `xl dump-core`: read right, by Xen's own machine table; the running guest's table agrees with the dump.

core=/tmp/guest.core
says() { grep -q "$1" /tmp/said || { cat /tmp/said; fail "$2: not said: $1"; }; }
good() { causeway translate "$@" >/tmp/said 2>&1 || { cat /tmp/said; fail "translate $*"; }; }
bad() { ! causeway translate "$@" >/tmp/said 2>&1 || { cat /tmp/said; fail "not refused: translate $*"; }; }

memory=192 guest_create u1
xl pause u1
xl dump-core u1 $core >/dev/null
good $core --check --machine --svg /tmp/u1.svg
cat /tmp/said
note "$(grep '^pages' /tmp/said)"
note "$(grep '^contiguity' /tmp/said)"
says '^check       good' "the dump against Xen's own table"
grep -q '</svg>' /tmp/u1.svg || fail "no picture"
# What the guest itself kept, found through the shared page in the dump, and the same from the paused guest.
good $core --own --check --machine --compare $core
says '^compared    the same' "the guest's own table in the dump"
good u1 --check --machine --compare $core
says '^check       good' "the running guest's table against Xen's own"
says '^compared    the same' "the running guest's table against the dump"
note "live: $(grep '^pages' /tmp/said)"
good "$(id_of u1)" --own --compare $core --json
says '"different" : 0' "by number, as JSON"

# 32 MiB of pages by pfn are the same by machine frame, and in the paused guest itself. The kernel is among them.
good $core pfn 0x1000+0x2000 --contents /tmp/by-pfn
sed -n 's/^p0x[0-9a-f]* is m\(0x[0-9a-f]*\) for \([0-9]*\) pages.*/mfn \1+\2/p; s/^p0x[0-9a-f]* is m\(0x[0-9a-f]*\)$/mfn \1/p' /tmp/said >/tmp/questions
[ -s /tmp/questions ] || fail "no answers"
note "8192 pages in $(wc -l </tmp/questions) runs"
causeway translate $core $(cat /tmp/questions) --contents /tmp/by-mfn >/tmp/said
cmp /tmp/by-pfn /tmp/by-mfn || fail "pages by mfn"
good u1 pfn 0x1000+0x2000 --contents /tmp/live
cmp /tmp/by-pfn /tmp/live || fail "pages of the running guest"
same $((8192 * 4096)) "$(stat -c %s /tmp/by-pfn)" "pages written"
grep -q 'Linux version' /tmp/by-pfn || fail "the kernel's pages"
rm -f /tmp/by-* /tmp/live

# Running, and smaller: the tables differ now, and the old dump is wrong by Xen's own.
xl unpause u1
good u1 --check --machine --pause
xl mem-set u1 160
shrunk() { [ "$(xl list u1 | awk 'NR == 2 {print $3}')" -le 161 ]; }
within 60 shrunk
good u1 --check --machine --pause
note "ballooned: $(grep '^pages' /tmp/said)"
bad u1 --compare $core --pause
says 'then p\?0x\|then nothing\|: nothing' "the difference"
bad $core --check --machine
says "Xen's own table says" "a dump that is out of date"
guest_destroy u1
rm -f $core
