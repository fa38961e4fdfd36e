#!/usr/bin/env python3
"""libcauseway-translation through ctypes: a frame map, DMA, an IOMMU, a dump.

    translation.py [--library libcauseway-translation.so] [DUMP]
"""
import argparse
import ctypes
import errno
import os
from ctypes import POINTER, Structure, byref, c_char_p, c_int, c_size_t, c_uint16, c_uint32, c_uint64, c_void_p

READ, WRITE = 1, 2
MODEL_P2M, MODEL_IDENTITY, MODEL_VP = 0, 1, 2
ENTRIES = ["none", "ballooned", "identity", "local", "foreign"]
TO_DEVICE, FROM_DEVICE = 0, 1
IOMMU_STRICT = 1


class Translation(Structure):
    _fields_ = [("frame", c_uint64), ("page_count", c_uint64), ("offset", c_uint32), ("permissions", c_uint32),
                ("kind", c_uint32), ("reserved", c_uint32)]


class Run(Structure):
    _fields_ = [("pfn", c_uint64), ("page_count", c_uint64), ("frame", c_uint64), ("permissions", c_uint32), ("kind", c_uint32)]


class Reverse(Structure):
    _fields_ = [("pfn", c_uint64), ("generation", c_uint64), ("is_foreign", c_uint32), ("reserved", c_uint32)]


class DMAOptions(Structure):
    _fields_ = [("model", c_uint32), ("iommu", c_uint32), ("flags", c_uint32), ("maximum_segment_size", c_uint32),
                ("maximum_segments", c_uint32), ("minimum_alignment", c_uint32), ("mask", c_uint64), ("boundary_mask", c_uint64),
                ("bounce_pool_bytes", c_uint64), ("seed", c_uint64)]


class Segment(Structure):
    _fields_ = [("address", c_uint64), ("byte_count", c_uint32), ("reserved", c_uint32)]


class DumpInfo(Structure):
    _fields_ = [("is_auto_translated", c_uint32), ("guest_width", c_uint32), ("processors", c_uint64), ("entries", c_uint64),
                ("used", c_uint64), ("findings", c_uint64)]


class Library:
    """The shared object with its argument types; a negative answer becomes an OSError."""

    TYPES = {
        "map_create": [c_uint16, c_uint32, c_uint64, c_uint64, c_uint64, POINTER(c_void_p)],
        "map_set": [c_void_p, c_uint64, c_uint64, c_uint64, c_uint32],
        "map_translate": [c_void_p, c_uint64, c_uint64, POINTER(Translation)],
        "map_reverse": [c_void_p, c_uint64, POINTER(Reverse)],
        "map_range": [c_void_p, c_uint64, c_uint64, POINTER(Run), c_size_t, POINTER(c_size_t), POINTER(c_uint64)],
        "map_clear": [c_void_p, c_uint64, c_uint64],
        "dma_create": [c_char_p, POINTER(DMAOptions), POINTER(c_void_p)],
        "dma_attach": [c_void_p, c_void_p, c_uint64, c_uint32, POINTER(c_uint64)],
        "dma_detach": [c_void_p, c_void_p],
        "dma_map_single": [c_void_p, c_uint64, c_uint32, c_uint64, c_uint32, POINTER(Segment), c_size_t, POINTER(c_size_t), POINTER(c_uint64)],
        "dma_unmap": [c_void_p, c_uint64, c_uint32],
        "iommu_create": [c_char_p, c_uint32, c_uint64, POINTER(c_void_p)],
        "iommu_map": [c_void_p, c_uint64, c_uint64, c_uint32, POINTER(c_uint64)],
        "iommu_access": [c_void_p, c_uint64, c_uint32, POINTER(c_uint64)],
        "dump_open": [c_char_p, POINTER(c_void_p), c_char_p, c_size_t],
        "dump_get_info": [c_void_p, POINTER(DumpInfo)],
        "dump_map": [c_void_p, POINTER(c_void_p)],
        "dump_read_pfn": [c_void_p, c_uint64, c_char_p],
        "dump_read_mfn": [c_void_p, c_uint64, c_char_p],
    }

    def __init__(self, path):
        self.object = ctypes.CDLL(path)
        for kind in ("map", "dma", "iommu", "dump"):
            destroy = self.raw(f"{kind}_destroy")
            destroy.argtypes, destroy.restype = [c_void_p], None
        for name, types in self.TYPES.items():
            self.raw(name).argtypes, self.raw(name).restype = types, c_int

    def raw(self, name):
        return getattr(self.object, "causeway_" + name)

    def call(self, name, *arguments):
        result = self.raw(name)(*arguments)
        if result < 0:
            raise OSError(-result, os.strerror(-result), name)
        return result


def refused(number, call, *arguments):
    """Whether a call fails with that error."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno == number
    return False


def maps(library):
    handle = c_void_p()
    library.call("map_create", 3, MODEL_P2M, 1 << 20, 1 << 24, 0, byref(handle))
    library.call("map_set", handle, 0x100, 16, 0x2A000, READ | WRITE)
    found, back = Translation(), Reverse()
    library.call("map_translate", handle, 0x104123, 64, byref(found))
    print(f"0x104123 is frame {found.frame:#x} + {found.offset:#x}, {found.page_count} pages in a row, {ENTRIES[found.kind]}")
    library.call("map_reverse", handle, 0x2A004, byref(back))
    print(f"frame 0x2a004 is pfn {back.pfn:#x}")
    assert refused(errno.ENOENT, library.call, "map_translate", handle, 0x200000, 1, byref(found))
    assert refused(errno.EEXIST, library.call, "map_set", handle, 0x100, 1, 5, READ)
    assert refused(errno.EBUSY, library.call, "map_set", handle, 0x500, 1, 0x2A000, READ)
    library.raw("map_destroy")(handle)


def dma(library):
    handle, pfn, mapping, count = c_void_p(), c_uint64(), c_uint64(), c_size_t()
    options = DMAOptions(model=MODEL_P2M, iommu=IOMMU_STRICT, mask=0xFFFFFFFF, seed=3)
    library.call("dma_create", b"example", byref(options), byref(handle))
    import mmap
    memory = mmap.mmap(-1, 16 * 4096)
    pages = (ctypes.c_char * len(memory)).from_buffer(memory)
    library.call("dma_attach", handle, ctypes.addressof(pages), len(memory), READ | WRITE, byref(pfn))
    segments = (Segment * 16)()
    library.call("dma_map_single", handle, pfn, 0, 5 * 4096, TO_DEVICE, segments, 16, byref(count), byref(mapping))
    print(f"5 scattered pages behind the IOMMU: {count.value} segment of {segments[0].byte_count} bytes")
    library.call("dma_unmap", handle, mapping, TO_DEVICE)
    assert refused(errno.ENOENT, library.call, "dma_unmap", handle, mapping, TO_DEVICE)
    library.call("dma_detach", handle, ctypes.addressof(pages))
    library.raw("dma_destroy")(handle)


def iommu(library):
    handle, iova, address = c_void_p(), c_uint64(), c_uint64()
    library.call("iommu_create", b"example", IOMMU_STRICT, 0xFFFFFFFF, byref(handle))
    library.call("iommu_map", handle, 0x2A000, 4, READ, byref(iova))
    library.call("iommu_access", handle, iova.value + 0x1005, READ, byref(address))
    print(f"iova + 0x1005 is address {address.value:#x}")
    assert refused(errno.EFAULT, library.call, "iommu_access", handle, iova, WRITE, byref(address))
    library.raw("iommu_destroy")(handle)


def dump(library, path):
    handle, tables, info = c_void_p(), c_void_p(), DumpInfo()
    message = ctypes.create_string_buffer(256)
    try:
        library.call("dump_open", os.fsencode(path), byref(handle), message, len(message))
    except OSError:
        raise SystemExit(message.value.decode())
    library.call("dump_get_info", handle, byref(info))
    print(f"{path}: {'auto-translated' if info.is_auto_translated else 'PV'}, {info.used} pages, {info.findings} findings")
    library.call("dump_map", handle, byref(tables))
    run, count, pfn, page = Run(), c_size_t(), c_uint64(0), ctypes.create_string_buffer(4096)
    while True:
        here = pfn.value
        library.call("map_range", tables, here, 1, byref(run), 1, byref(count), byref(pfn))
        if run.kind:
            break
    library.call("dump_read_pfn", handle, here, page)
    print(f"pfn {here:#x} is frame {run.frame:#x}, its first byte 0x{page.raw[0]:02x}")
    # The map is a thing of its own, and read-only.
    library.raw("dump_destroy")(handle)
    assert refused(errno.EROFS, library.call, "map_clear", tables, here, 1)
    library.raw("map_destroy")(tables)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="libcauseway-translation.so")
    parser.add_argument("dump", nargs="?")
    arguments = parser.parse_args()
    library = Library(arguments.library)
    maps(library)
    dma(library)
    iommu(library)
    if arguments.dump:
        dump(library, arguments.dump)


if __name__ == "__main__":
    main()
