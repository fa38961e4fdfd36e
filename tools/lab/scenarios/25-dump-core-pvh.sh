# A PVH guest dumped by `xl dump-core`: its pages are found by its own numbers; machine frames are Xen's business.

core=/tmp/guest.core
says() { grep -q "$1" /tmp/said || { cat /tmp/said; fail "$2: not said: $1"; }; }
good() { causeway translate "$@" >/tmp/said 2>&1 || { cat /tmp/said; fail "translate $*"; }; }
bad() { ! causeway translate "$@" >/tmp/said 2>&1 || { cat /tmp/said; fail "not refused: translate $*"; }; }

type=pvh memory=192 guest_create u2
bad u2
says 'auto-translated' "a PVH guest's live table"
xl dump-core u2 $core >/dev/null
good $core --check
cat /tmp/said
note "PVH: $(grep '^pages' /tmp/said)"
says 'dump of an auto-translated domain' "the kind"
says '^check       good' "the dump"
good $core pfn 0x1000+0x2000 --contents /tmp/by-pfn
grep -q 'Linux version' /tmp/by-pfn || fail "the kernel's pages"
good $core mfn 0x1000
says 'not known' "machine frames of an auto-translated domain"
bad nosuch
says 'no such domain' "neither file nor domain"
guest_destroy u2
