#!/bin/sh
# Installs the packages of .build/deb in a Debian that has nothing, by debootstrap, uses them there as somebody would who has never seen Swift,
# upgrades them, and removes them without a trace: tools/deb/verify.sh, as root. A directory that is kept spares the next run the download: DEB_ROOT=DIR.
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "verify-deb: needs root, for debootstrap and namespaces" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "verify-deb: there is no debootstrap; apt-get install debootstrap" >&2; exit 1; }
packages=$PWD/.build/deb
ls "$packages"/causeway_*.deb >/dev/null 2>&1 || { echo "verify-deb: no packages in .build/deb; make deb" >&2; exit 1; }
work=$(mktemp -d)
base=${DEB_ROOT:-$work/base}
root=$work/root
cleanup() {
    status=$?
    set +e
    trap '' INT TERM HUP PIPE
    for place in proc sys dev/shm dev/net/tun dev/pts dev; do mountpoint -q "$root/$place" && umount -l "$root/$place"; done
    mountpoint -q "$root" && umount -l "$root"
    rm -rf --one-file-system "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP PIPE
ok() { echo "ok    $*"; }
fail() { echo "FAIL  $*" >&2; exit 1; }

if [ ! -e "$base/etc/debian_version" ]; then
    echo "debootstrap of Debian 12, a minute or so"
    # Beside its place: half of one is none.
    rm -rf "$base.new"
    debootstrap --variant=minbase bookworm "$base.new" >"$work/debootstrap.log" 2>&1 || { tail -5 "$work/debootstrap.log"; fail "debootstrap"; }
    mv "$base.new" "$base"
fi
# On top of it, so that it can be used again.
mkdir -p "$root" "$work/upper" "$work/layer"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/layer" "$root" 2>/dev/null || { mount --bind "$root" "$root"; cp -a "$base/." "$root/"; }
mkdir -p "$root/packages" && cp "$packages"/*.deb "$root/packages/"
cp /etc/resolv.conf "$root/etc/resolv.conf"
# The packages need libraries that are as new as those that they were built with: this machine's sources have them, Debian's security updates, too.
rm -f "$root/etc/apt/sources.list"
for list in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do [ ! -e "$list" ] || cp "$list" "$root$list"; done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --bind /dev "$root/dev"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }

inside apt-get -qq update >"$work/apt.log" 2>&1 || { tail -5 "$work/apt.log"; fail "apt-get update"; }
inside apt-get -qq install --no-install-recommends -y fio iperf3 iproute2 libnbd-bin systemd >>"$work/apt.log" 2>&1 || { tail -5 "$work/apt.log"; fail "apt-get install of what the checks use"; }
list() { (cd "$root" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./packages -o -path ./tmp -o -path ./var/log -o -path ./var/cache -o -path ./var/lib/dpkg -o -path ./var/lib/apt -o -path ./run \) -prune -o -print) | sort; }
# What the packages stand on comes first, so that only their own files are counted.
needed=$(inside sh -c 'apt-get -s install --no-install-recommends /packages/*.deb' | sed -n 's/^Inst \([^ ]*\) .*/\1/p' | grep -v causeway || true)
# shellcheck disable=SC2086 # a list of words
[ -z "$needed" ] || inside apt-get -qq install --no-install-recommends -y $needed >>"$work/apt.log" 2>&1
list >"$work/before"

inside sh -c 'apt-get -qq install --no-install-recommends -y /packages/*.deb' >>"$work/apt.log" 2>&1 || { tail -20 "$work/apt.log"; fail "apt-get install of the packages"; }
[ -e "$root/usr/bin/swift" ] && fail "there is a Swift in it"
version=$(inside causeway --version)
# shellcheck disable=SC2016 # dpkg's own variables
field() { inside dpkg-query -W -f "\${$1}" causeway; }
ok "installed: $version, $(field Installed-Size) KiB, without Swift; it needs $(inside ldd /usr/bin/causeway | grep -c '=>') libraries of Debian's"
missing=$(inside sh -c 'ldd /usr/bin/causeway /usr/lib/causeway/*.so /usr/lib/*/libcauseway-translation.so.1' | grep 'not found' || true)
[ -z "$missing" ] || fail "libraries are missing: $missing"
inside getent passwd causeway >/dev/null || fail "there is no user causeway"
[ ! -L "$root/etc/systemd/system/multi-user.target.wants/causeway-backend.service" ] || fail "the unit is enabled by the installation"
inside systemd-analyze verify /lib/systemd/system/causeway-backend.service >"$work/unit.log" 2>&1 || { cat "$work/unit.log"; fail "the unit"; }
ok "the user causeway, and the unit, which is not enabled"

cat >"$root/tmp/use.sh" <<'USE'
set -eu
truncate -s 64M /tmp/disk.img
causeway pair --quiet --disk /tmp/disk.img,raw,xvda,w -- sh -c 'fio --name=v --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k \
    --iodepth=32 --size=32M --verify=crc32c --verify_state_save=0 --minimal >/tmp/fio.out'
echo "fio's verify through a pair"
causeway pair --quiet --vif mac=00:16:3e:01:02:03 -- sh -c '
    ip addr add 192.0.2.1/24 dev $CAUSEWAY_TAP_BACK_0
    ip -n $CAUSEWAY_NETNS_0 addr add 192.0.2.2/24 dev $CAUSEWAY_TAP_FRONT_0
    iperf3 -s -1 -B 192.0.2.1 >/dev/null & sleep 1
    ip netns exec $CAUSEWAY_NETNS_0 iperf3 -c 192.0.2.1 -t 2' | sed -n 's/.*  \([0-9.]* [MG]bits.sec\) .*receiver.*/iperf3 through a vif: \1/p'
USE
# A network of its own: what the checks make is gone with it.
unshare --net chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c 'ip link set lo up; sh /tmp/use.sh' >"$work/use.log" 2>&1 ||
    { tail -20 "$work/use.log"; fail "a disk and an interface through the installed command"; }
grep -q '^iperf3 through' "$work/use.log" || { cat "$work/use.log"; fail "iperf3 said nothing"; }
while read -r line; do ok "$line"; done <"$work/use.log"

# A newer package, while a pair of the old one serves: what runs goes on.
mkdir "$root/packages/newer"
cat >"$root/tmp/upgrade.sh" <<'USE'
set -eu
for package in /packages/causeway_*.deb; do
    rm -rf /tmp/newer && dpkg-deb -R "$package" /tmp/newer
    sed -i 's/^Version: .*/&+1/' /tmp/newer/DEBIAN/control
    dpkg-deb -b /tmp/newer /packages/newer/causeway.deb >/dev/null
done
rm -rf /tmp/newer
causeway pair --quiet --disk /tmp/disk.img,raw,xvda,w -- sh -c '
    fio --name=v --ioengine=nbd --uri="$uri" --rw=randrw --bs=4k --iodepth=8 --size=32M --time_based --runtime=6 --verify=crc32c \
        --verify_state_save=0 --minimal >/tmp/fio.out & job=$!
    sleep 1; dpkg -i /packages/newer/causeway.deb >/tmp/dpkg.out 2>&1 && wait $job'
USE
inside sh /tmp/upgrade.sh >"$work/upgrade.log" 2>&1 || { tail -20 "$work/upgrade.log"; cat "$root/tmp/dpkg.out"; fail "an upgrade under a running pair"; }
ok "upgraded to $(field Version) under a running pair, whose client saw no error"

mkdir -p "$root/run/causeway" && touch "$root/run/causeway/journal"
inside sh -c 'apt-get -qq purge -y causeway causeway-dev causeway-doc libcauseway-translation1' >>"$work/apt.log" 2>&1 || { tail -20 "$work/apt.log"; fail "apt-get purge"; }
list >"$work/after"
[ ! -e "$root/run/causeway" ] || fail "purge leaves /run/causeway"
# The user stays, as Debian's policy has it: files may still be its.
if ! diff "$work/before" "$work/after" >"$work/left" 2>&1; then cat "$work/left"; fail "purge leaves something behind"; fi
ok "purged: nothing is left but the user"
