#!/usr/bin/env python3
"""The NBD server of a pair beside those that a user would otherwise take: tools/bench/nbd.py CAUSEWAY [--rounds N] [--seconds S]

One file in memory, one client (fio's NBD engine), the servers in turn in each round: `causeway pair`, `nbdkit file`, `qemu-nbd`. Medians of the rounds, and how each compares with nbdkit in the same round (the median of ratios).
"""
import argparse
import os
import statistics
import subprocess
import tempfile
import time

JOBS = [("randread", "4k", 1), ("randread", "4k", 32), ("randwrite", "4k", 1), ("randwrite", "4k", 32), ("randread", "128k", 8), ("randwrite", "128k", 8)]


def fio(uri: str, job: tuple[str, str, int], seconds: float) -> float:
    """Requests a second."""
    rw, size, depth = job
    done = subprocess.run(
        ["fio", "--name=x", "--ioengine=nbd", f"--uri={uri}", f"--rw={rw}", f"--bs={size}", f"--iodepth={depth}", "--size=256M", "--norandommap",
         f"--runtime={seconds}", "--time_based", "--output-format=terse"], capture_output=True, text=True, check=True)
    # The engine puts a line of its own before the others: 8 are read IOPS, 49 write.
    fields = next(line.split(";") for line in done.stdout.splitlines() if line.count(";") > 50)
    return float(fields[7]) + float(fields[48])


def serve(command: list[str], path: str):
    """A server that is up when its socket is there."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while not os.path.exists(path):
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"bench: {command[0]} does not serve")
        time.sleep(0.01)
    time.sleep(0.3)
    return process


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("causeway")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=2)
    chosen = options.parse_args()
    causeway = os.path.abspath(chosen.causeway)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, tempfile.TemporaryDirectory() as run:
        image, kit, qemu = f"{memory}/disk", f"{run}/kit", f"{run}/qemu"
        with open(image, "wb") as file:
            for _ in range(256):
                file.write(os.urandom(1 << 20))
        uri = "nbd+unix:///?socket="
        servers = {
            "the pair": ([causeway, "pair", "-q", "--run-dir", f"{run}/pair", "--disk", f"{image},raw,xvda,w"], f"{run}/pair/xvda.sock"),
            "nbdkit file": (["nbdkit", "-f", "-U", kit, "file", image], kit),
            "qemu-nbd": (["qemu-nbd", "-f", "raw", "--cache=writeback", "-t", "-k", qemu, image], qemu),
        }
        figures: dict = {(name, job): [] for name in servers for job in JOBS}
        for _ in range(chosen.rounds):
            for name, (command, path) in servers.items():
                process = serve(command, path)
                try:
                    for job in JOBS:
                        figures[name, job].append(fio(uri + path, job, chosen.seconds))
                finally:
                    process.terminate()
                    process.wait()
                    if os.path.exists(path):
                        os.unlink(path)
        print("| requests a second | " + " | ".join(f"{name} | ratio" for name in servers) + " |")
        print("|---|" + "--:|--:|" * len(servers))
        for job in JOBS:
            cells = []
            for name in servers:
                ratios = [own / other for own, other in zip(figures[name, job], figures["nbdkit file", job])]
                cells.append(f"{statistics.median(figures[name, job]):,.0f} | {statistics.median(ratios):.2f}")
            print(f"| {job[0]} {job[1]}, depth {job[2]} | " + " | ".join(cells) + " |")


main()
