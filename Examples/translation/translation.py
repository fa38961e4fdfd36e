#!/usr/bin/env python3
"""The Python package causeway_translation: a frame map, DMA, an IOMMU, a dump.

    translation.py [DUMP]

The package is in Python/ and in the wheel of `make wheel`.
"""
import errno
import mmap
import sys

from causeway_translation import Dma, Dump, DumpError, Entry, Iommu, Map, Model, Permission
from causeway_translation.dma import Direction
from causeway_translation.iommu import IommuMode


def refused(number, call, *arguments):
    """Whether a call fails with that error."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno == number
    return False


def maps():
    with Map(3, Model.P2M, pfn_limit=1 << 20, frame_limit=1 << 24) as table:
        table.set(0x100, 16, 0x2A000)
        found = table.translate(0x104123, 64)
        print(f"0x104123 is frame {found.frame:#x} + {found.offset:#x}, {found.page_count} pages in a row, {found.kind.name.lower()}")
        print(f"frame 0x2a004 is pfn {table.reverse(0x2A004).pfn:#x}")
        assert table.translate(0x200000) is None
        assert refused(errno.EEXIST, table.set, 0x100, 1, 5)
        assert refused(errno.EBUSY, table.set, 0x500, 1, 0x2A000)
        assert [run.page_count for run in table.runs(0xFF, 20)] == [1, 16, 3]


def dma():
    # Page by page on the bus, and the device sees an IOMMU's addresses of 32 bits.
    memory = mmap.mmap(-1, 16 * 4096)
    with Dma("example", model=Model.P2M, iommu=IommuMode.STRICT, mask=0xFFFFFFFF, seed=3) as device:
        pfn = device.attach(memory)
        with device.map_single(pfn, 0, 5 * 4096, Direction.TO_DEVICE) as transfer:
            segments = transfer.segments
            print(f"5 scattered pages behind the IOMMU: {len(segments)} segment of {segments[0].byte_count} bytes")
        assert refused(errno.ENOENT, transfer.unmap)
        device.detach(pfn)


def iommu():
    with Iommu("example", IommuMode.STRICT, mask=0xFFFFFFFF) as space:
        iova = space.map(0x2A000, 4, Permission.READ)
        print(f"iova + 0x1005 is address {space.access(iova + 0x1005, Permission.READ):#x}")
        assert refused(errno.EFAULT, space.access, iova, Permission.WRITE)
        assert space.next_fault().iova == iova


def dump(path):
    try:
        core = Dump(path)
    except DumpError as error:
        raise SystemExit(error.strerror) from None
    with core:
        kind = "auto-translated" if core.is_auto_translated else "PV"
        print(f"{path}: {kind}, {core.page_count} pages, {len(core.findings)} findings")
        table = core.map()
        first = next(run for run in table.runs() if run.kind != Entry.NONE)
        print(f"pfn {first.pfn:#x} is frame {first.frame:#x}, its first byte 0x{core.read_pfn(first.pfn)[0]:02x}")
    # The map is a thing of its own, and read-only.
    assert refused(errno.EROFS, table.clear, first.pfn, 1)
    table.close()


def main():
    maps()
    dma()
    iommu()
    for path in sys.argv[1:]:
        dump(path)


if __name__ == "__main__":
    main()
