"""The Python package against a header and a dump: package.py HEADER DUMP BROKEN. Prints nothing and ends with 0, or says what is wrong."""
import errno
import gc
import mmap
import os
import re
import sys

from causeway_translation import (Addresses, Dma, Dump, DumpError, Entry, Iommu, Map, Model, Permission, Registry, Space, SpaceError, VectorKind, Vectors,
                                  interface_version, library)
from causeway_translation.dma import Direction
from causeway_translation.iommu import Cause, IommuMode
from causeway_translation.registries import Event, WithdrawalCause

header, path, broken = sys.argv[1:]
text = open(header).read()
declared = set(re.findall(r"\bcauseway_([a-z_]+)\(", text))
assert declared == set(library.CALLS) | set(library.OTHERS), declared ^ (set(library.CALLS) | set(library.OTHERS))
version = int(re.search(r"TRANSLATION_VERSION (0x[0-9a-f]+)u", text)[1], 16)
assert library.WANTED == version and interface_version() == (version >> 16, version & 0xFFFF)


def fails(number, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except OSError as error:
        assert error.errno == number, error
        return error
    raise AssertionError(f"{call} was not refused")


# Maps.
table = Map(7, Model.VP, pfn_limit=1 << 20, frame_limit=1 << 24, own_frames=0x1000)
before = table.generation
assert table.translate(0x5678).kind == Entry.LOCAL and table.is_current(before)
table.balloon_out(0x10, 4)
assert not table.is_current(before)
foreign = table.set_foreign(0x11, [0x50000, 0x60000], 9, Permission.READ)
assert [(run.frame, run.kind) for run in table.runs(0x10, 4)] == [
    (None, Entry.BALLOONED), (0x50000, Entry.FOREIGN), (0x60000, Entry.FOREIGN), (None, Entry.BALLOONED)]
assert table.reverse(0x60000).is_foreign and table.translate(0x11000).permissions == Permission.READ
foreign.close()
assert table.translate(0x11000) is None and table.reverse(0x60000) is None
table.set_permissions(0x20, 1, Permission.READ)
table.set_identity(0x2000, 2)
assert table.translate(0x2000 << 12).kind == Entry.IDENTITY
table.clear(0x30, 1)
assert table.audit()["inconsistent"] == 0
fails(errno.ERANGE, table.set, 1 << 20, 1, 5)
table.close()
table.close()
try:
    table.translate(0)
    raise AssertionError("a closed map answers")
except ValueError:
    pass
fails(errno.EINVAL, Map, 7, 5, pfn_limit=1, frame_limit=1)

# DMA: the device's bytes come back through the pool, and what is attached is held.
memory = mmap.mmap(-1, 8 * 4096)
device = Dma("bounced", mask=(1 << 20) - 1, bounce_pool_bytes=1 << 18, model=Model.P2M, iommu=IommuMode.OFF)
pfn = device.attach(memory)
fails(errno.EEXIST, device.attach, memory)
transfer = device.map([(pfn, 100, 50), (pfn + 3, 0, 4096)], Direction.FROM_DEVICE)
assert sum(segment.byte_count for segment in transfer.segments) == 4146
address, available = device.resolve(transfer.segments[0].address, 50, Direction.FROM_DEVICE)
assert available == 50
library.ctypes.memmove(address, b"x" * 50, 50)
transfer.sync_for_cpu(0, 50)
assert memory[100:150] == b"x" * 50
transfer.unmap()
fails(errno.ENOENT, transfer.unmap)
assert device.statistics()["live"] == 0 and device.statistics()["bounces"] > 0
gc.collect()
try:
    memory.close()
    raise AssertionError("memory went under the device")
except BufferError:
    pass
device.detach(pfn)
gc.collect()
memory.close()
# More segments than there was room for at first.
memory = mmap.mmap(-1, 64 * 4096)
scattered = Dma("scattered", model=Model.P2M, seed=5)
with scattered.map_single(scattered.attach(memory), 0, 64 * 4096, Direction.TO_DEVICE) as long:
    assert len(long.segments) == 64, len(long.segments)

# An IOMMU.
space = Iommu("space", IommuMode.DEFERRED)
iova = space.map(0x1000, 2, Permission.READ)
assert space.access(iova + 5, Permission.READ) == 0x1000005
fails(errno.EFAULT, space.access, iova, Permission.WRITE)
assert space.next_fault() == (iova, Cause.WRITE_DENIED) and space.next_fault() is None and space.fault_count == 1
space.unmap(iova, 2)
assert space.stale_count == 1 and space.access(iova, Permission.READ)
space.flush()
assert space.stale_count == 0
fails(errno.EFAULT, space.access, iova, Permission.READ)

# A device's own IOMMU, addresses of 57 bits, and what is asked for when it is missed.
wide = Iommu.wide("wide", 57)
wide.map_at(1 << 56, 0x40000, 512 * 3 + 5, Permission.READ)
assert wide.leaves()[:3] == (5, 3, 0) and wide.access((1 << 56) + 512 * 4096 + 3, Permission.READ) == 0x40200003
wide.unmap_at((1 << 56) + 4096, 1)
assert wide.leaves()[:3] == (5 + 511, 2, 0)
fails(errno.EEXIST, wide.map_at, 1 << 56, 1, 1, Permission.READ)
fails(errno.ERANGE, wide.map_at, 1 << 57, 1, 1, Permission.READ)
asked = []
wide.on_miss(lambda iova, permission: (asked.append((iova, permission)), wide.map_at(0x5000, 7, 1, Permission.READ) if iova == 0x5000 else None))
assert wide.access(0x5000, Permission.READ) == 0x7000 and wide.access(0x5001, Permission.READ) == 0x7001
fails(errno.EFAULT, wide.access, 0x6000, Permission.WRITE)
assert asked == [(0x5000, 1), (0x6000, 2)] and wide.next_fault() == (0x6000, Cause.NOT_MAPPED)
wide.on_miss(None)
fails(errno.EFAULT, wide.access, 0x6000, Permission.WRITE)
assert len(asked) == 2
device = Dma("joined", model=Model.P2M, iommu=IommuMode.STRICT, mask=(1 << 32) - 1)
joined = device.iommu()
memory = mmap.mmap(-1, 4096)
pfn = device.attach(memory)
with device.map_single(pfn, 0, 4096, Direction.BIDIRECTIONAL) as both, device.allocate_coherent(5000) as ring:
    at = both.segments[0].address
    for way in (Direction.TO_DEVICE, Direction.FROM_DEVICE):
        library.ctypes.memset(device.resolve(at, 1, way)[0], 0x33, 1)
    assert memory[0] == 0x33 and joined.leaves()[0] == 3
    assert device.resolve(ring.address + 4999, 1, Direction.FROM_DEVICE)[0] == ring.memory + 4999 and ring.byte_count == 8192
    joined.map_at(0x7000000, joined.access(at, Permission.READ) >> 12, 1, Permission.READ)
    assert device.resolve(0x7000000, 1, Direction.TO_DEVICE)[0] == device.resolve(at, 1, Direction.TO_DEVICE)[0]
    fails(errno.EFAULT, device.resolve, 0x7000000, 1, Direction.FROM_DEVICE)
    joined.unmap_at(0x7000000, 1)
fails(errno.ENOENT, ring.free)
fails(errno.EFAULT, device.resolve, ring.address, 1, Direction.TO_DEVICE)
fails(errno.ENODEV, Dma("alone").iommu)
joined.close()
device.detach(pfn)
del both, ring

# A device's space, and what it says when it refuses.
with Space("software:57", budget=8 * 4096) as own:
    memory = mmap.mmap(-1, 4 * 4096)
    assert own.info() == (1 << 12 | 1 << 21 | 1 << 30, 0, None)
    assert own.map(memory, at=1 << 50) == 1 << 50 and own.map(memory, Permission.READ) != 1 << 50
    error = fails(errno.EDQUOT, own.map, memory)
    assert isinstance(error, SpaceError)
    words = error.strerror
    del error  # and with it the frames that have the buffer
    assert "and 0 of 32768 bytes are left" in words, words
    assert own.account()[:2] == (8 * 4096, 8 * 4096) and own.account().refused_bytes == 4 * 4096
    assert "cannot be given" in fails(errno.ERANGE, own.map, memory, at=0xFEE00000).strerror
    address = own.pointer((1 << 50) + 4097)
    assert own.bus_address(address, 100) == ((1 << 50) + 4097, 100) and own.bus_address(0) is None and own.pointer(0) is None
    assert own.addresses() == [(4096, 0xFEDFFFFF), (0xFEF00000, (1 << 57) - 1)], own.addresses()
    assert own.addresses(Addresses.RESERVED)[-1] == (1 << 57, (1 << 64) - 1) and len(own.addresses(Addresses.FREE)) == 4
    own.start_dirty()
    assert own.access((1 << 50) + 8192, Permission.WRITE) == address - 1 + 4096
    assert own.take_dirty(1 << 50, 4 * 4096) == [False, False, True, False]
    own.stop_dirty()
    fails(errno.EFAULT, own.access, 0x1234, Permission.READ)
    assert own.next_fault() == (0x1234, Cause.NOT_MAPPED) and own.next_fault() is None
    gc.collect()
    try:
        memory.close()
        raise AssertionError("memory went under the device")
    except BufferError:
        pass
    assert own.unmap(1 << 50, 1 << 20) == 4 * 4096 and own.unmap_all() == 4 * 4096
    gc.collect()
    memory.close()
    file = os.memfd_create("region")
    os.truncate(file, 8192)
    iova, place = own.map_descriptor(file, 4096, 4096)
    library.ctypes.memmove(place, b"there", 5)
    assert os.pread(file, 5, 4096) == b"there" and own.bus_address(place).iova == iova
    fails(errno.ENOENT, own.device)
fails(errno.ENODEV, Space, "software:99")
assert "descriptor 999" in fails(errno.EBADF, Vectors, 999, VectorKind.MSIX, 1).strerror
fails(errno.ENOTTY, Vectors.available, file, VectorKind.MSI)

# Memory registered once, and taken away without a word.
told = []


def listener(event, address, byte_count):
    told.append((event, byte_count))
    if byte_count == 3 * 4096:
        raise PermissionError(errno.EACCES, "not this")


with Registry(watched=True) as registry, Space("software") as own:
    libc = library.ctypes.CDLL(None)
    libc.mmap.restype, libc.mmap.argtypes = library.c_void_p, [library.c_void_p, library.c_size_t] + [library.c_int] * 4
    libc.munmap.argtypes = [library.c_void_p, library.c_size_t]
    address = libc.mmap(None, 8 * 4096, 3, 0x22, -1, 0)
    number = registry.listen(listener)
    registry.join(own)
    registry.register(address, 2 * 4096)
    assert own.bus_address(address + 5, 10).in_row == 10 and registry.size() == (1, 2 * 4096)
    fails(errno.EEXIST, registry.register, address, 4096)
    fails(errno.EACCES, registry.register, address + 8192, 3 * 4096)
    libc.munmap(address, 4096)
    assert own.bus_address(address + 4096) is None and registry.size() == (0, 0)
    assert told == [(Event.REGISTERED, 2 * 4096), (Event.REGISTERED, 3 * 4096), (Event.WITHDRAWN, 2 * 4096)], told
    while registry.withdrawal_count == 0:
        pass
    while (was := registry.next_withdrawal()) is None:
        pass
    assert was == (address, 2 * 4096, address, 4096, WithdrawalCause.UNMAPPED), was
    fails(errno.ENOENT, registry.unregister, address, 2 * 4096)
    registry.end_listening(number)
    registry.leave(own)
    assert fails(errno.ENOENT, registry.leave, own).strerror == "no such space or listener in this registry"

# Dumps, by three ways; what is read is the same.
data = open(path, "rb").read()
with open(path, "rb") as file:
    file.seek(77)
    by_descriptor = Dump.from_descriptor(file.fileno())
    assert file.tell() == 77
dumps = [Dump(path), by_descriptor, Dump.from_bytes(data)]
del data
gc.collect()
for dump in dumps:
    assert not dump.is_auto_translated and dump.page_count == 3 and dump.guest_width == 8 and dump.processors >= 1
    assert len(dump.findings) == 1, dump.findings
    assert dump.read_pfn(1) == dump.read_mfn(10) and len(dump.read_pfn(1)) == 4096 and dump.read_pfn(99) is None
    pages = dump.map()
    dump.close()
    assert pages.translate(1 << 12).frame == 10 and pages.page_limit == 4
    assert [(run.pfn, run.page_count, run.frame) for run in pages.runs()] == [(0, 1, None), (1, 2, 10), (3, 1, None)]
    fails(errno.EROFS, pages.clear, 1, 1)
error = fails(errno.EBADMSG, Dump, broken)
assert isinstance(error, DumpError) and error.strerror.startswith(f"{broken}: ELF header"), error
assert fails(errno.EBADMSG, Dump.from_bytes, b"\x01\x02").strerror.startswith("ELF header")
fails(errno.ENOENT, Dump, path + ".not")
fails(errno.EBADF, Dump.from_descriptor, 999)
with open(broken, "wb") as file:
    fails(errno.EBADF, Dump.from_descriptor, file.fileno())
reader, writer = os.pipe()
fails(errno.EINVAL, Dump.from_descriptor, reader)
