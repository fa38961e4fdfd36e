"""Pairs under test on a cluster, and what their disks are used with. Needs python3-libnbd, fio and qemu-utils."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import nbd


class Failed(Exception):
    """A check that did not find what it looked for."""


def expect(condition, words):
    if not condition:
        raise Failed(words)


def until(condition, seconds, words):
    """Waits until `condition` gives something, and gives that back."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise Failed(words() if callable(words) else words)


class Pair:
    """`causeway pair` with one disk, `xvda`: a host of its own, in a group of its own."""

    def __init__(self, causeway, target, mode="w", options=(), directory=None):
        self.made = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="pair.", dir="/tmp")
        self.lines = []
        self.process = subprocess.Popen(
            [causeway, "pair", "--run-dir", self.directory, *options, "--disk", f"{target},raw,xvda,{mode}"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    @property
    def socket(self):
        return f"{self.directory}/xvda.sock"

    @property
    def uri(self):
        return f"nbd+unix:///?socket={self.socket}"

    def says(self, words):
        return next((line for line in self.lines if words in line), None)

    def wait_for(self, words, seconds=20):
        return until(lambda: self.says(words), seconds, lambda: f"the pair does not say \"{words}\": {self.lines[-4:]}")

    def ready(self, seconds=30):
        """Waits until its disk can be used."""
        def is_up():
            if self.process.poll() is not None:
                raise Failed(f"the pair ended: {self.lines[-3:]}")
            return self.says("xvda: rbd:") or self.says("xvda: nbd")
        until(is_up, seconds, lambda: f"the pair does not come up: {self.lines[-3:]}")
        return self

    def ended(self, seconds=60):
        """Waits until it ends by itself; its last words."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"the pair does not end: {self.lines[-3:]}") from None
        self.reader.join(5)
        return [line for line in self.lines if "confined" not in line and "serving domain" not in line]

    def backend(self):
        """The backend's process."""
        def find():
            for entry in pathlib.Path("/proc").iterdir():
                if entry.name.isdigit():
                    try:
                        words = (entry / "cmdline").read_bytes().split(b"\0")
                        state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                    except OSError:
                        continue
                    if words[1:2] == [b"backend"] and self.directory.encode() in words and state != "Z":
                        return int(entry.name)
            return None
        return until(find, 10, "there is no backend")

    def group(self):
        """All of its processes; each role has this directory among its words."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if self.directory.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def signal_all(self, number):
        for process in self.group():
            try:
                os.kill(process, number)
            except ProcessLookupError:
                pass

    def end(self, seconds=30):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.signal_all(signal.SIGKILL)
                self.process.wait()
        self.reader.join(5)
        if self.made:
            shutil.rmtree(self.directory, ignore_errors=True)


def fio(uri, *options, engine=("--ioengine=nbd",), environment=None):
    """Starts a job; give it to `fio_result`."""
    where = [f"--uri={uri}"] if uri else []
    return subprocess.Popen(
        ["fio", "--name=x", *engine, *where, "--output-format=json", "--verify_state_save=0", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment)


def fio_result(job, seconds=120):
    """A job's figures; it is to have met no error."""
    out, _ = job.communicate(timeout=seconds)
    expect(job.returncode == 0, f"fio failed: {out.strip().splitlines()[:3]}")
    figures = json.loads(out[out.index("{"):])["jobs"][0]
    expect(figures["error"] == 0, f"fio met error {figures['error']}: {out.strip().splitlines()[:3]}")
    return figures


def longest(figures):
    """Seconds of the longest request."""
    return max(figures[kind]["lat_ns"]["max"] for kind in ("read", "write")) / 1e9


def qemu_io(uri, *commands):
    """What qemu-io says of commands on a disk."""
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(["qemu-io", "-f", "raw", *words, uri], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


class Client:
    """A disk's user that knows what was answered: blocks with a stamp in them, written and read by NBD."""
    size = 4096

    def __init__(self, uri):
        self.handle = nbd.NBD()
        self.handle.connect_uri(uri)

    def close(self):
        self.handle = None

    def stamp(self, block, number):
        return (f"{block} {number} ".encode() * self.size)[:self.size]

    def write(self, block, number):
        self.handle.pwrite(self.stamp(block, number), block * self.size)

    def begin(self, blocks, number):
        """Begins to write blocks, with stamps from `number` on, and waits for none."""
        for step, block in enumerate(blocks):
            self.handle.aio_pwrite(self.stamp(block, number + step), block * self.size)
        end = time.monotonic() + 0.005
        while time.monotonic() < end:
            self.handle.poll(1)

    def fails_to_write(self, block, number):
        """Whether a write is answered, with an error."""
        try:
            self.write(block, number)
        except nbd.Error:
            return True
        return False

    def flush(self):
        self.handle.flush()

    def read(self, block):
        """The number in a block's stamp; None: it is torn, or another block's."""
        bytes_read = bytes(self.handle.pread(self.size, block * self.size))
        words = bytes_read.split(b" ", 2)
        if len(words) < 3 or not words[0].isdigit() or not words[1].isdigit():
            return 0 if bytes_read == bytes(self.size) else None
        number = int(words[1])
        return number if bytes_read == self.stamp(block, number) else None
