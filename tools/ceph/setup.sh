#!/bin/sh
# Installs the Debian packages that `make test-ceph` and `make bench-rbd` need beside those of `make setup`; only what is missing.
set -eu
missing=""
for package in ceph-mon ceph-osd ceph-common librbd1 fio qemu-utils qemu-block-extra python3-libnbd; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "setup: these Debian packages are missing:$missing" >&2
    exit 1
fi
echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words on purpose
apt-get install -qq -y --no-install-recommends $missing >/dev/null
