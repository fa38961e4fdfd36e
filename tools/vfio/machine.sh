# Sourced: what the scripts here have in common, which emulate a machine with an IOMMU. Sets kernel, modules, version and
# base; `machine_guest DIRECTORY MODULE…` begins an initial file system, `machine_program DIRECTORY PROGRAM [NAME]` adds a
# program with its libraries, `machine_pack DIRECTORY FILE` makes the archive.
fail() { echo "vfio: $*" >&2; exit 1; }

# Installs the packages of Debian's that are missing, those named among them.
machine_packages() {
  local missing=() packages=(qemu-system-x86 busybox-static cpio kmod "$@") package
  [ -z "$modules" ] || [ -z "$(find "$modules/" -name '*.ko.zst' -print -quit)" ] || packages+=(zstd)
  [ -z "$modules" ] || [ -z "$(find "$modules/" -name '*.ko.xz' -print -quit)" ] || packages+=(xz-utils)
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" -eq 0 ] || fail "that needs root: apt-get install ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# The kernel that the user names, by its image and the directory of its modules; nothing named: Debian's, only unpacked,
# since installing it would change how this machine boots.
machine_kernel() {
  if [ -z "$kernel" ]; then
    local tree=$out/kernel work package
    if [ ! -d "$tree" ]; then
      work=$(mktemp -d "$out/unpack.XXXXXX")
      # Filled in now: when the script ends this function's variables are gone.
      # shellcheck disable=SC2064
      trap "rm -rf '$work'" EXIT
      package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9]\)/\1/p' | head -1)
      echo "vfio: unpacking $package"
      (cd "$work" && apt-get download -qq "$package" 2>/dev/null && dpkg -x ./linux-*.deb tree) || fail "cannot fetch $package from Debian's archive"
      mv "$work/tree" "$tree"
    fi
    modules=$(echo "$tree"/lib/modules/*)
    kernel=$tree/boot/vmlinuz-${modules##*/}
    [ -e "$modules/modules.dep" ] || depmod -b "$tree" "${modules##*/}"
  fi
  version=${modules##*/} base=${modules%/lib/modules/*}
  local module
  for module in "$@"; do
    modprobe -d "$base/" -S "$version" --show-depends "$module" >/dev/null 2>&1 || fail "kernel $version has no $module"
  done
}

machine_guest() {
  local guest=$1 module file
  shift
  rm -rf "$guest"
  mkdir -p "$guest"/{bin,proc,sys,dev,tmp,run,"lib/modules/$version"}
  cp /bin/busybox "$guest/bin/"
  "$guest/bin/busybox" --list | grep -v '^busybox$' | while read -r applet; do ln -sf busybox "$guest/bin/$applet"; done
  for module in "$@"; do
    modprobe -d "$base/" -S "$version" --show-depends "$module" | awk '/^insmod/{print $2}' | while read -r file; do
      install -D -m 644 "$file" "$guest/lib/modules/$version/${file##*"/lib/modules/$version/"}"
    done
  done
  cp "$modules"/modules.{order,builtin,builtin.modinfo} "$guest/lib/modules/$version/"
  # busybox reads no compressed modules.
  find "$guest/lib/modules" -name '*.ko.zst' -exec unzstd -q --rm {} +
  find "$guest/lib/modules" -name '*.ko.xz' -exec unxz {} +
  find "$guest/lib/modules" -name '*.ko.gz' -exec gunzip {} +
  depmod -b "$guest" "$version"
}

machine_program() {
  local guest=$1 program=$2 name=${3:-bin/$(basename "$2")} library
  mkdir -p "$guest/$(dirname "$name")"
  strip --strip-debug -o "$guest/$name" "$program" 2>/dev/null || install "$program" "$guest/$name"
  ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    [ -e "$guest$library" ] || install -D "$(readlink -f "$library")" "$guest$library"
  done
}

machine_pack() { (cd "$1" && find . | cpio -o -H newc --quiet) >"$2"; }
