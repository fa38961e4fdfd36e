#!/usr/bin/env python3
"""A Ceph cluster of one node, for tests and benchmarks: one monitor and one OSD on loopback, below a directory of its own.

tools/ceph/cluster.py [DIR]: starts one, prints its configuration's path, and ends it at ^C or when its input ends.

It needs Debian's ceph-mon, ceph-osd and ceph-common, and half a gigabyte of memory. It is up in five seconds, keeps everything in DIR (a
scratch directory without one), and leaves nothing: its processes are this one's children, and the directory goes with them.
"""
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

PROGRAMS = ["ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "rbd"]

GLOBAL = """\
fsid = {fsid}
mon_initial_members = a
mon_host = [v2:127.0.0.1:{port}/0]
ms_bind_ipv6 = false
ms_bind_msgr1 = false
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_port_min = {first}
ms_bind_port_max = {last}
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
auth_allow_insecure_global_id_reclaim = false
run_dir = {place}/run
pid_file = {place}/run/$name.pid
admin_socket = {place}/run/$cluster-$name.$pid.asok
log_file = {place}/log/$name.log
mon_cluster_log_file = {place}/log/cluster.log
crash_dir = {place}/log
keyring = {place}/keyring
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_data_avail_warn = 1
mon_data_avail_crit = 1
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
"""

# A killed client's watch is looked at for as long as Ceph's own default says: what depends on it is to be seen as users see it.
OSD = """\
osd_data = {place}/osd
keyring = {place}/osd/keyring
osd_objectstore = bluestore
bluestore_block_size = {bytes}
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
osd_memory_target = 939524096
"""


def missing():
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def free_ports(count):
    """The first of `count` ports that nobody listens at just now."""
    for base in range(20000 + os.getpid() % 8000, 32000, count):
        held = []
        try:
            for port in range(base, base + count):
                held.append(socket.socket())
                held[-1].bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for each in held:
                each.close()
    raise SystemExit("ceph: no free ports")


class Cluster:
    """A cluster that runs for as long as the `with` block."""

    def __init__(self, place=None, pool="p", size=4 << 30):
        self.made = place is None
        # The daemons' sockets are in it, and a socket's path has 107 bytes.
        self.place = pathlib.Path(place or tempfile.mkdtemp(prefix="ceph.", dir="/var/tmp"))
        self.pool = pool
        self.size = size
        self.conf = self.place / "ceph.conf"
        self.fsid = str(uuid.uuid4())
        self.osd_uuid = str(uuid.uuid4())
        self.mon = self.osd = None
        self.user = "ceph" if os.geteuid() == 0 else None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    # Running things.

    def as_ceph(self, *words):
        words = [str(word) for word in words]
        return (["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"] if self.user else []) + words

    def environment(self):
        return dict(os.environ, HOME=str(self.place), CEPH_CONF=str(self.conf))

    def run(self, *words, input=None, timeout=30):
        """Output of a command, which is to succeed."""
        done = subprocess.run(
            self.as_ceph(*words), input=input, capture_output=True, text=True, timeout=timeout, env=self.environment())
        if done.returncode != 0:
            raise SystemExit(f"ceph: {' '.join(str(word) for word in words)}: {(done.stderr or done.stdout).strip()[-600:]}")
        return done.stdout

    def ceph(self, *words, **more):
        return self.run("ceph", "-c", self.conf, *words, **more)

    def rbd(self, *words, **more):
        return self.run("rbd", "-c", self.conf, *words, **more)

    def daemon(self, *words):
        # Its own group: a ^C is this process's to answer.
        return subprocess.Popen(
            self.as_ceph(*words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=self.environment(), process_group=0)

    # Life.

    def start(self):
        base = free_ports(8)
        for name in ["", "run", "log", "mon", "osd"]:
            (self.place / name).mkdir(mode=0o755, exist_ok=True)
        words = dict(fsid=self.fsid, port=base, first=base + 1, last=base + 7, place=self.place, bytes=self.size)
        self.conf.write_text(
            "[global]\n" + GLOBAL.format(**words) + f"[mon.a]\nmon_data = {self.place}/mon\nkeyring = {self.place}/mon/keyring\n"
            + "[osd.0]\n" + OSD.format(**words) + "[client]\nlog_file =\nadmin_socket =\n")
        if self.user:
            entry = pwd.getpwnam(self.user)
            for path in [self.place, *self.place.iterdir()]:
                os.chown(path, entry.pw_uid, entry.pw_gid)
        self.make_keys()
        map_file = self.place / "monmap"
        self.run("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", f"[v2:127.0.0.1:{base}]", map_file)
        self.run("ceph-mon", "-c", self.conf, "-i", "a", "--mkfs", "--monmap", map_file, "--keyring", self.place / "mon.keyring")
        self.start_mon()
        self.ceph("-s")
        secret = self.run("ceph-authtool", "--gen-print-key").strip()
        self.ceph("osd", "new", self.osd_uuid, "-i", "-", input=json.dumps({"cephx_secret": secret}))
        self.run(
            "ceph-authtool", self.place / "osd/keyring", "--create-keyring", "--name", "osd.0", "--add-key", secret)
        self.run("ceph-osd", "-c", self.conf, "-i", "0", "--mkfs", "--osd-uuid", self.osd_uuid)
        self.start_osd()
        self.ceph("osd", "pool", "create", self.pool, "8", "8")
        self.ceph("osd", "pool", "application", "enable", self.pool, "rbd")
        self.until_up()

    def make_keys(self):
        for path, name, caps in [
            ("mon.keyring", "mon.", ["mon", "allow *"]),
            ("keyring", "client.admin", ["mon", "allow *", "osd", "allow *", "mgr", "allow *"]),
        ]:
            pairs = [word for kind, what in zip(caps[::2], caps[1::2]) for word in ("--cap", kind, what)]
            self.run("ceph-authtool", "--create-keyring", self.place / path, "--gen-key", "-n", name, *pairs)
        self.run("ceph-authtool", self.place / "mon.keyring", "--import-keyring", self.place / "keyring")

    def start_mon(self):
        self.mon = self.daemon("ceph-mon", "-c", self.conf, "-i", "a", "-f")

    def start_osd(self):
        self.osd = self.daemon("ceph-osd", "-c", self.conf, "-i", "0", "-f")

    @staticmethod
    def kill(daemon):
        """Kills it, and waits: its successor fails on its lock else."""
        if daemon and daemon.poll() is None:
            daemon.send_signal(signal.SIGKILL)
        if daemon:
            daemon.wait()

    def until_up(self, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            dump = json.loads(self.ceph("osd", "dump", "-f", "json"))
            if any(osd["up"] for osd in dump["osds"]):
                return
            if self.osd.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit("ceph: the OSD does not come up: " + self.last_words())

    def last_words(self):
        log = self.place / "log/osd.0.log"
        return log.read_text(errors="replace")[-400:] if log.exists() else "it wrote no log"

    def be_full(self, is_full):
        """Has the cluster take itself for full, or not; waits until its map says so."""
        for kind in ["nearfull", "backfillfull", "full"]:
            self.ceph("osd", f"set-{kind}-ratio", "0.001" if is_full else "0.95")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            pools = json.loads(self.ceph("osd", "dump", "-f", "json"))["pools"]
            if all(("full" in pool["flags_names"].split(",")) == is_full for pool in pools):
                return
            time.sleep(0.2)
        raise SystemExit(f"ceph: the pool does not become {'full' if is_full else 'empty'}")

    def add_user(self, name, *caps):
        """A user with these capabilities (`mon`, `profile rbd`, …), its key in the cluster's keyring."""
        key = self.ceph("auth", "get-or-create", f"client.{name}", *caps)
        with open(self.place / "keyring", "a") as file:
            file.write(key)

    def create(self, name, size="1G", features="layering,exclusive-lock"):
        """An image; returns when the cluster has it."""
        self.rbd("create", f"{self.pool}/{name}", "--size", size, "--image-feature", features)

    def target(self, image, more=""):
        """An image as Causeway and QEMU name it."""
        return f"rbd:{self.pool}/{image}:conf={self.conf}{more}"

    def end(self):
        self.kill(self.osd)
        self.kill(self.mon)
        if self.made:
            shutil.rmtree(self.place, ignore_errors=True)


def main():
    if missing():
        raise SystemExit(f"ceph: not installed: {', '.join(missing())} (apt-get install ceph-mon ceph-osd ceph-common)")
    with Cluster(sys.argv[1] if len(sys.argv) > 1 else None) as cluster:
        print(cluster.conf, flush=True)
        try:
            sys.stdin.read()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
