#!/bin/sh
# Installs the Debian packages that building, testing and the demo need; only what is missing. Run by `make setup`.
set -eu

build="libxen-dev liburing-dev libnbd-dev nbdkit-plugin-dev pkg-config"
use="nbdkit libnbd-bin fio qemu-utils xenstore-utils xen-utils-4.17 python3-pyxs e2fsprogs util-linux mount strace"
# Programs of Xen's that are run on the loopback host.
use="$use qemu-system-xen xen-utils-common"
# A guest with virtio drivers, and what its root file system is made of.
use="$use qemu-system-x86 busybox-static cpio kmod"
# The other driver of a virtio interface: DPDK's testpmd, in dpdk-dev.
use="$use dpdk-dev"
# Debian's libfuse reads through this at run time; nbdfuse mounts with fusermount3.
use="$use fuse3"
# The Python session of Docs/break-it.md.
use="$use python3-libnbd"
# The network tests and benchmark.
use="$use iproute2 iputils-ping iperf3 ethtool python3 tcpdump tshark"
# promtool, for what Prometheus and Grafana are given.
use="$use prometheus"
# The C example and the tests of the C library.
use="$use gcc g++ binutils python3-setuptools python3-wheel python3-venv"
develop="spin shellcheck mandoc"

missing=""
for package in $build $use $develop; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done

if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup: these Debian packages are missing:$missing" >&2
        echo "setup: installing them needs root; run: sudo make setup" >&2
        exit 1
    fi
    echo "setup: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # --no-install-recommends: xen-utils would otherwise bring a hypervisor and make it the default boot entry.
    # shellcheck disable=SC2086 # a list of words on purpose
    apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

if ! command -v swift >/dev/null 2>&1; then
    echo "setup: swift is not in the PATH; 6.3 or later is needed; README.md says where it is" >&2
    exit 1
fi
