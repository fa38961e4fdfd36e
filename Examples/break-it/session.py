#!/usr/bin/python3
"""What an NBD client sees of a disk that goes wrong. Run it so, with Debian's python3-libnbd:

    causeway pair --disk disk.img,raw,xvda,w -- /usr/bin/python3 Examples/break-it/session.py
"""
import errno
import os
import time

import nbd

from faults import fault

DISK = "vbd-1/51712"
client = nbd.NBD()
client.connect_uri(os.environ["uri"])


def write(offset: int, pattern: int) -> None:
    client.pwrite(bytes([pattern]) * 4096, offset)


def seconds(work, *words) -> float:
    begun = time.monotonic()
    work(*words)
    return time.monotonic() - begun


# A write that fails is an error of that write, and of no other.
with fault(DISK, "error", operation="write", sectors="8-15", count=1) as bad:
    write(0, 1)
    try:
        write(4096, 2)
        raise SystemExit("a write that was to fail did not")
    except nbd.Error as error:
        assert error.errnum == errno.EIO, error
    write(4096, 2)
    print(f"error: struck {bad.struck} of 3 writes")

# Late answers are late, and nothing else.
with fault(DISK, "delay", ms=200, operation="read"):
    late = seconds(client.pread, 4096, 0)
    assert 0.2 <= late < 2, late
    assert seconds(write, 0, 3) < 0.2
print("delay: a read took 0.2 seconds, a write did not")

# An event that is lost costs the frontend a second, not the disk.
with fault(DISK, "drop-event", count=1):
    assert seconds(write, 8192, 4) < 3
print("drop-event: survived")

assert client.pread(4096, 0) == bytes([3]) * 4096
assert client.pread(4096, 4096) == bytes([2]) * 4096
assert client.pread(4096, 8192) == bytes([4]) * 4096
print("every byte is what was written")
client.shutdown()
