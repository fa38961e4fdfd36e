#!/usr/bin/python3
"""A pair on an image of Ceph's beside the library alone and beside an NBD server: tools/bench/rbd.py CAUSEWAY [--rounds N] [--seconds S]

A cluster of one node on this machine, one image, in turn in each round: fio's own rbd engine, without librbd's cache, as Causeway has it; the
same with that cache, which answers writes before they are done; requests through the ring (`causeway bench block --target`) on `rbd:` and on
`qemu-nbd` with `rbd:`; fio's NBD engine on `causeway pair`, on that qemu-nbd, and on a pair with that qemu-nbd behind it. Medians of the rounds, and how each compares with the
first in the same round (the median of ratios). The cluster's own daemons share the processors with all of them.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

# In the place of this folder, in which `nbd` is another program.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1] / "ceph")
import cluster as ceph
from pairs import Pair, fio, fio_result

JOBS = [("randread", "4k", 32), ("randwrite", "4k", 32), ("randread", "4k", 1), ("randwrite", "4k", 1), ("randread", "128k", 8), ("randwrite", "128k", 8)]
SIZE = "512M"


def measure(job, seconds, uri=None, engine=("--ioengine=nbd",), environment=None):
    """Requests a second."""
    rw, block, depth = job
    figures = fio_result(fio(
        uri, f"--rw={rw}", f"--bs={block}", f"--iodepth={depth}", f"--size={SIZE}", "--norandommap", f"--runtime={seconds}", "--time_based",
        engine=engine, environment=environment))
    return figures["read"]["iops"] + figures["write"]["iops"]


def ring(causeway, target, job, seconds):
    """The same through a ring, without NBD."""
    rw, block, depth = job
    words = ["--write"] if rw == "randwrite" else []
    done = subprocess.run(
        [causeway, "bench", "block", "--target", target, "--depth", str(depth), "--size", block.rstrip("k"), "--seconds", str(seconds), "--runs", "1",
         "--json", *words], capture_output=True, text=True, check=True)
    return next(line["ours"] for line in json.loads(done.stdout)["results"] if line["name"].startswith("target"))


class QemuNBD:
    def __init__(self, target, run):
        self.path = f"{run}/qemu.sock"
        self.process = subprocess.Popen(["qemu-nbd", "-f", "raw", "--cache=writeback", "-t", "-e", "4", "-k", self.path, target])
        end = time.monotonic() + 20
        while not os.path.exists(self.path):
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit("bench: qemu-nbd does not serve (it needs qemu-block-extra)")
            time.sleep(0.05)

    @property
    def uri(self):
        return f"nbd+unix:///?socket={self.path}"

    def end(self):
        self.process.terminate()
        self.process.wait()
        if os.path.exists(self.path):
            os.unlink(self.path)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("causeway")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=3)
    options.add_argument("--jobs", type=int, default=len(JOBS))
    chosen = options.parse_args()
    causeway, jobs = os.path.abspath(chosen.causeway), JOBS[:chosen.jobs]
    names = ["fio's rbd engine", "with librbd's cache", "the ring", "the ring on qemu-nbd", "the pair by NBD", "qemu-nbd", "a pair on qemu-nbd"]
    figures = {(name, job): [] for name in names for job in jobs}
    with ceph.Cluster() as cluster, tempfile.TemporaryDirectory() as run:
        cluster.create("bench", SIZE)
        engine = ("--ioengine=rbd", "--clientname=admin", "--pool=p", "--rbdname=bench")
        environment = cluster.environment()
        plain = cluster.place / "plain.conf"
        plain.write_text(cluster.conf.read_text() + "rbd_cache = false\n")
        uncached = dict(environment, CEPH_CONF=str(plain))
        # Once over all of it: a first write costs less, or more, than the ones behind it.
        fio_result(fio(None, "--rw=write", "--bs=1M", "--iodepth=8", f"--size={SIZE}", engine=engine, environment=environment))
        target = cluster.target("bench")
        for _ in range(chosen.rounds):
            for job in jobs:
                figures[names[0], job].append(measure(job, chosen.seconds, engine=engine, environment=uncached))
                figures[names[1], job].append(measure(job, chosen.seconds, engine=engine, environment=environment))
                figures[names[2], job].append(ring(causeway, target, job, chosen.seconds))
            with Pair(causeway, target).ready() as pair:
                for job in jobs:
                    figures[names[4], job].append(measure(job, chosen.seconds, pair.uri))
            server = QemuNBD(target, run)
            try:
                for job in jobs:
                    figures[names[5], job].append(measure(job, chosen.seconds, server.uri))
                    figures[names[3], job].append(ring(causeway, server.uri, job, chosen.seconds))
                with Pair(causeway, server.uri).ready() as pair:
                    for job in jobs:
                        figures[names[6], job].append(measure(job, chosen.seconds, pair.uri))
            finally:
                server.end()
    print("| requests a second | " + " | ".join(f"{name} | ratio" for name in names) + " |")
    print("|---|" + "--:|--:|" * len(names))
    for job in jobs:
        cells = []
        for name in names:
            ratios = [own / other for own, other in zip(figures[name, job], figures[names[0], job])]
            cells.append(f"{statistics.median(figures[name, job]):,.0f} | {statistics.median(ratios):.2f}")
        print(f"| {job[0]} {job[1]}, depth {job[2]} | " + " | ".join(cells) + " |")
    for job in jobs:
        for ours, theirs in [(2, 3), (4, 6), (4, 5)]:
            ratios = [own / other for own, other in zip(figures[names[ours], job], figures[names[theirs], job])]
            print(f"{job[0]} {job[1]}, depth {job[2]}: {names[ours]} beside {names[theirs]}: {statistics.median(ratios):.2f}")


main()
