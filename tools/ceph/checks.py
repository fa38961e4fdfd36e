#!/usr/bin/python3
"""RBD disks on a real cluster: tools/ceph/checks.py CAUSEWAY [NAME ...]: all checks, or those named. Run by `make test-ceph`.

A one-node cluster is started on loopback in a scratch directory, and ended. Where Ceph's or other packages are missing the checks are skipped,
each by its name; with CI in the environment that is a failure.
"""
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time

import cluster as ceph

NEEDED = {"fio": "fio", "qemu-io": "qemu-utils"}


def missing():
    """Packages that are not installed."""
    lack = {"ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "rbd": "ceph-common", **NEEDED}
    packages = [package for program, package in lack.items() if shutil.which(program) is None]
    return packages + ([] if importlib.util.find_spec("nbd") else ["python3-libnbd"])


if not missing():
    from pairs import Client, Failed, Pair, expect, fio, fio_result, longest, qemu_io, until

VERIFY = ["--rw=randwrite", "--bsrange=4k-128k", "--iodepth=16", "--verify=crc32c", "--verify_backlog=256", "--verify_fatal=1"]


class Checks:
    def __init__(self, cluster, causeway):
        self.cluster = cluster
        self.causeway = causeway
        self.count = 0
        self.pairs = []

    def image(self, **more):
        """A new image's name."""
        self.count += 1
        name = f"img{self.count}"
        self.cluster.create(name, **more)
        return name

    def pair(self, image, *options, mode="w", more="", directory=None):
        self.pairs.append(Pair(self.causeway, self.cluster.target(image, more), mode, options, directory))
        return self.pairs[-1]

    def end_pairs(self):
        """Ends those that a check which failed has left."""
        for pair in self.pairs:
            if pair.process.poll() is None:
                pair.signal_all(signal.SIGKILL)
            pair.end()
        self.pairs = []

    # Data.

    def verify(self):
        """fio's verify job in blocks of 4 to 128 KiB, at depth 16"""
        with self.pair(self.image()).ready() as pair:
            figures = fio_result(fio(pair.uri, *VERIFY, "--size=256M", "--io_size=128M"))
        return f"{figures['write']['io_kbytes'] >> 10} MiB"

    def discard_and_zeroes(self):
        """discard, zeroes and what is smaller than can be discarded"""
        with self.pair(self.image()).ready() as pair:
            said = qemu_io(
                pair.uri, "write -P 0xab 0 1M", "discard 65536 65536", "read -P 0xab 0 65536", "read -P 0 65536 65536",
                "read -P 0xab 131072 65536", "write -z 512 512", "write -z -u 262144 65536", "read -P 0xab 0 512", "read -P 0 512 512",
                "read -P 0xab 1024 512", "read -P 0 262144 65536", "flush")
            expect("failed" not in said and "rror" not in said, said)
        return None

    def resize(self):
        """a resize reaches the frontend, up and down, with requests under way"""
        image = self.image(size="128M")
        with self.pair(image).ready() as pair:
            job = fio(pair.uri, *VERIFY, "--size=64M", "--time_based", "--runtime=6")
            time.sleep(1)
            begun = time.monotonic()
            self.cluster.rbd("resize", f"p/{image}", "--size", "256M", "--no-progress")
            pair.wait_for("has 524288 sectors of 512 bytes now", 10)
            pause = time.monotonic() - begun
            fio_result(job)
            said = qemu_io(pair.uri, "write -P 7 200M 64k", "read -P 7 200M 64k")
            expect("rror" not in said, said)
            self.cluster.rbd("resize", f"p/{image}", "--size", "128M", "--allow-shrink", "--no-progress")
            pair.wait_for("has 262144 sectors of 512 bytes now", 10)
        return f"seen after {pause:.1f} s"

    def snapshot(self):
        """a snapshot is what the image was, and is only read"""
        image = self.image(size="64M")
        with self.pair(image).ready() as pair:
            qemu_io(pair.uri, "write -P 1 0 64k", "flush")
            self.cluster.rbd("snap", "create", f"p/{image}@s")
            qemu_io(pair.uri, "write -P 2 0 64k", "flush")
            # Beside the writer, who has the lock.
            with self.pair(f"{image}@s", mode="r").ready() as reader:
                said = qemu_io(f"{reader.uri}", "read -P 1 0 64k")
                expect("rror" not in said and "failed" not in said or "read-only" in said, said)
                handle = Client(reader.uri).handle
                expect(handle.is_read_only(), "the snapshot can be written")
                expect(bytes(handle.pread(4096, 0)) == b"\x01" * 4096, "the snapshot is not what the image was")
            with self.pair(f"{image}@s") as writer:
                words = writer.ended()
                expect(len(words) == 1 and "can only be read" in words[0], words)
        return None

    def full(self):
        """a cluster without room: ENOSPC to the write, and to no read"""
        with self.pair(self.image(size="64M")).ready() as pair:
            qemu_io(pair.uri, "write -P 3 0 64k", "flush")
            self.cluster.be_full(True)
            try:
                said = qemu_io(pair.uri, "write -P 4 1M 64k")
                # Xen's block protocol has one error for all; the backend says which it was.
                expect("rror" in said, f"a write for which there is no room: {said}")
                pair.wait_for("No space left on device")
                said = qemu_io(pair.uri, "read -P 3 0 64k")
                expect("rror" not in said and "failed" not in said, said)
            finally:
                self.cluster.be_full(False)
            said = qemu_io(pair.uri, "write -P 4 1M 64k", "read -P 4 1M 64k")
            expect("rror" not in said and "failed" not in said, said)
        return None

    # What is wrong with it.

    def refusals(self):
        """wrong pool, image, snapshot, user, key, lock feature, options: one line each"""
        self.cluster.create("plain", "64M", "layering")
        image = self.image(size="64M")
        place = self.cluster.place
        (place / "empty").write_text("")
        (place / "bare.conf").write_text(self.cluster.conf.read_text().replace(f"keyring = {place}/keyring", f"keyring = {place}/empty"))
        (place / "forged").write_text("[client.admin]\n\tkey = AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==\n")
        (place / "forged.conf").write_text(self.cluster.conf.read_text().replace(f"keyring = {place}/keyring", f"keyring = {place}/forged"))
        conf = self.cluster.conf
        wrong = {
            f"rbd:none/{image}:conf={conf}": "has no pool none",
            f"rbd:p/none:conf={conf}": "there is no image none in pool p",
            f"rbd:p/ns/{image}:conf={conf}": f"there is no image {image} in pool p",
            f"rbd:p/plain:conf={conf}": "the image has not the feature exclusive-lock",
            f"rbd:p/{image}:id=none:conf={conf}": "the cluster refuses client.none|no key of client.none",
            f"rbd:p/{image}:conf={place}/bare.conf": "no key of client.admin|the cluster refuses client.admin",
            f"rbd:p/{image}:conf={place}/forged.conf": "the cluster refuses client.admin",
            f"rbd:p/{image}:conf=/none": "the configuration /none cannot be read",
            f"rbd:p/{image}:none=1:conf={conf}": "the option none is not taken",
        }
        for target, expected in wrong.items():
            with Pair(self.causeway, target, options=["--quiet"]) as pair:
                # A frontend that hears of it before it is ended says that its device was removed.
                words = [line for line in pair.ended() if not line.startswith("causeway: frontend: ")]
                expect(len(words) == 1 and any(part in words[0] for part in expected.split("|")), f"{target}: {words}")
                expect(pair.process.returncode == 1, f"{target}: status {pair.process.returncode}")
        return f"{len(wrong)} of them"

    # Who is away.

    def osd_away(self):
        """the only OSD killed and back under I/O: requests wait, then go on"""
        with self.pair(self.image()).ready() as pair:
            job = fio(pair.uri, *VERIFY, "--size=64M", "--time_based", "--runtime=16")
            time.sleep(2)
            self.cluster.kill(self.cluster.osd)
            pair.wait_for("the cluster has not answered for", 12)
            self.cluster.start_osd()
            pair.wait_for("the cluster answers again after", 40)
            figures = fio_result(job)
            expect(not pair.says("fails") and not pair.says("fenced"), pair.lines)
        return f"longest request {longest(figures):.1f} s"

    def monitor_away(self):
        """the only monitor killed and back under I/O: nobody notices"""
        with self.pair(self.image()).ready() as pair:
            job = fio(pair.uri, *VERIFY, "--size=64M", "--time_based", "--runtime=6")
            time.sleep(1)
            self.cluster.kill(self.cluster.mon)
            time.sleep(2)
            self.cluster.start_mon()
            figures = fio_result(job)
            self.cluster.ceph("-s")
        return f"longest request {longest(figures):.1f} s"

    def end_without_cluster(self):
        """a pair ends although its cluster is away and requests wait"""
        pair = self.pair(self.image()).ready()
        job = fio(pair.uri, *VERIFY, "--size=64M", "--time_based", "--runtime=30")
        time.sleep(1)
        self.cluster.kill(self.cluster.osd)
        time.sleep(2)
        begun = time.monotonic()
        pair.end(30)
        pause = time.monotonic() - begun
        job.kill()
        job.wait()
        self.cluster.start_osd()
        self.cluster.until_up()
        expect(pair.process.returncode in (0, -signal.SIGTERM, 143), f"status {pair.process.returncode}: {pair.lines[-3:]}")
        expect(pause < 15, f"it took {pause:.1f} s")
        return f"{pause:.1f} s"

    def start_without_cluster(self):
        """no cluster at the start: waited for, and served when it is there"""
        image = self.image(size="64M")
        self.cluster.kill(self.cluster.osd)
        with self.pair(image, "--timeout", "60", "--reconnect-delay", "60") as pair:
            pair.wait_for("waited for, 60 s at most", 20)
            self.cluster.start_osd()
            pair.ready(60)
            said = qemu_io(pair.uri, "write -P 3 0 64k", "read -P 3 0 64k")
            expect("rror" not in said, said)
        return None

    # One writer.

    def killed(self, rounds=10):
        """the backend killed under a verify job: its successor has the lock at once"""
        self.cluster.add_user("ours", "mon", "profile rbd", "osd", "profile rbd pool=p")
        with self.pair(self.image(), more=":id=ours").ready() as pair:
            job = fio(pair.uri, *VERIFY, "--size=64M", "--time_based", f"--runtime={rounds + 3}")
            for number in range(rounds):
                time.sleep(1)
                os.kill(pair.backend(), signal.SIGKILL)
                until(lambda: sum("connected: rbd:" in line for line in pair.lines) >= number + 2, 10, lambda: pair.lines[-3:])
            figures = fio_result(job)
        # A lock that nobody breaks is waited for, for 28 s.
        expect(longest(figures) < 8, f"the longest request took {longest(figures):.1f} s")
        return f"{rounds} times, longest request {longest(figures):.2f} s"

    def upgraded(self):
        """`causeway upgrade` under a verify job: the same backend, another program, the same disk"""
        with self.pair(self.image(), "--journal").ready() as pair:
            job = fio(pair.uri, *VERIFY, "--size=64M", "--time_based", "--runtime=8")
            for _ in range(3):
                time.sleep(1.5)
                done = subprocess.run([self.causeway, "upgrade", "--run-dir", pair.directory], capture_output=True, text=True, timeout=30)
                expect(done.returncode == 0, done.stdout + done.stderr)
            figures = fio_result(job)
        return f"longest request {longest(figures):.2f} s"

    def second_writer(self):
        """a second host is refused with a line, and waits for a first that ends"""
        image = self.image(size="64M")
        with self.pair(image).ready() as first:
            with self.pair(image, "--reconnect-delay", "2", "--quiet") as second:
                words = second.ended()
                expect("has its lock" in words[-1] and second.process.returncode == 1, words)
            with self.pair(image, "--reconnect-delay", "20") as second:
                second.wait_for("has its lock", 10)
                qemu_io(first.uri, "write -P 9 0 64k", "flush")
                first.end()
                second.ready()
                said = qemu_io(second.uri, "read -P 9 0 64k")
                expect("rror" not in said and "failed" not in said, said)
        return None

    def fail_over(self, rounds=20):
        """a host killed or cut off, the other takes over: no flushed write lost, no late write lands"""
        image, blocks = self.image(size="64M"), 256
        longest_pause, lost, number, refused = 0.0, 0, 0, 0
        flushed = {}
        first = self.pair(image, "--take-over").ready()
        for each in range(rounds):
            is_killed = each % 2 == 0
            client = Client(first.uri)
            end = time.monotonic() + 0.4
            while time.monotonic() < end:
                done = {}
                for _ in range(16):
                    number += 1
                    client.write(number % blocks, number)
                    done[number % blocks] = number
                client.flush()
                flushed.update(done)
            # Under way when it happens, and never answered: these may be there or not.
            client.begin(range(64), number + 1)
            begun = time.monotonic()
            first.signal_all(signal.SIGKILL if is_killed else signal.SIGSTOP)
            second = self.pair(image, "--take-over").ready()
            reader = Client(second.uri)
            reader.read(0)
            longest_pause = max(longest_pause, time.monotonic() - begun)
            for block, wanted in flushed.items():
                found = reader.read(block)
                lost += found is None or found < wanted
            number += 100
            # All of it anew: what is found after this is of the cut-off one.
            for block in range(blocks):
                number += 1
                reader.write(block, number)
                flushed[block] = number
            reader.flush()
            if not is_killed:
                first.signal_all(signal.SIGCONT)
                expect(client.fails_to_write(0, number), f"round {each}: a host that was cut off writes")
                first.wait_for("the cluster takes nothing from here any more", 20)
                refused += 1
                late = [block for block in range(blocks) if reader.read(block) != flushed[block]]
                expect(not late, f"round {each}: late writes in blocks {late[:8]}")
            client.close()
            reader.close()
            first.end(5)
            first = second
        first.end()
        expect(lost == 0, f"{lost} flushed writes lost")
        return f"{rounds} rounds, 0 flushed writes lost, {refused} cut-off hosts refused, longest pause {longest_pause:.2f} s"


ALL = ["refusals", "verify", "discard_and_zeroes", "resize", "snapshot", "full", "killed", "upgraded", "second_writer", "fail_over", "monitor_away",
       "osd_away", "end_without_cluster", "start_without_cluster"]


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    names = sys.argv[2:] or ALL
    unknown = [name for name in names if name not in ALL]
    if unknown:
        raise SystemExit(f"test-ceph: no such check: {', '.join(unknown)}; there are {', '.join(ALL)}")
    lack = missing()
    if lack:
        for name in names:
            print(f"skipped {name}: not installed: {', '.join(lack)}")
        print(f"test-ceph: {len(names)} checks skipped")
        raise SystemExit(1 if os.environ.get("CI") else 0)
    begun = time.monotonic()
    failed = []
    with ceph.Cluster() as cluster:
        print(f"the cluster is up after {time.monotonic() - begun:.1f} s", flush=True)
        checks = Checks(cluster, os.path.abspath(sys.argv[1]))
        for name in names:
            start = time.monotonic()
            try:
                words = getattr(checks, name)()
                print(f"pass {name}: {getattr(Checks, name).__doc__}{f': {words}' if words else ''} ({time.monotonic() - start:.1f} s)", flush=True)
            except Failed as error:
                failed.append(name)
                print(f"FAIL {name}: {error} ({time.monotonic() - start:.1f} s)", flush=True)
            finally:
                checks.end_pairs()
    print(f"test-ceph: {len(names) - len(failed)} of {len(names)} checks passed in {time.monotonic() - begun:.0f} s")
    raise SystemExit(1 if failed else 0)


main()
