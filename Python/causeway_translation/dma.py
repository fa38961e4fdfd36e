"""DMA: pages in, bus segments that a device can take out."""
import ctypes
import enum
import errno
from ctypes import byref, c_size_t, c_uint32, c_uint64, c_void_p
from typing import NamedTuple

from .iommu import Faulting, Iommu, IommuMode
from .library import COptions, CPiece, CSegment, CStatistics, call
from .maps import Model, Permission


class Direction(enum.IntEnum):
    """Who reads and who writes."""
    TO_DEVICE = 0
    FROM_DEVICE = 1
    BIDIRECTIONAL = 3


class Segment(NamedTuple):
    """What a device is given."""
    address: int
    byte_count: int


class Mapping:
    """One transfer, from its map to its unmap. Ended once, by unmap() or the end of a `with`."""

    def __init__(self, dma, handle, direction, segments):
        self._dma, self._handle, self.direction, self.segments = dma, handle, direction, segments

    def unmap(self):
        """The device is done with it."""
        call("dma_unmap", self._dma.handle, self._handle, self.direction)

    def sync_for_cpu(self, offset, byte_count):
        """Shows this process what the device has written so far."""
        call("dma_sync_for_cpu", self._dma.handle, self._handle, offset, byte_count)

    def sync_for_device(self, offset, byte_count):
        """Shows the device what this process has written."""
        call("dma_sync_for_device", self._dma.handle, self._handle, offset, byte_count)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.unmap()


class Coherent:
    """Memory that this process and a device use at the same time; freed once, by free() or the end of a `with`."""

    def __init__(self, dma, memory, address, byte_count, handle):
        self._dma, self.memory, self.address, self.byte_count, self._handle = dma, memory, address, byte_count, handle

    def free(self):
        """Neither side reaches it any more."""
        call("dma_free_coherent", self._dma.handle, self._handle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.free()


class Dma(Faulting):
    """A device queue's limits, and how it reaches memory. One thread at a time."""
    _kind = "dma"

    def __init__(self, name, *, model=Model.VP, iommu=IommuMode.OFF, untrusted=False, maximum_segment_size=0, maximum_segments=0,
                 minimum_alignment=0, mask=0, boundary_mask=0, bounce_pool_bytes=0, seed=0):
        """0 is no limit, or nothing; masks are all ones."""
        options = COptions(model, iommu, 1 if untrusted else 0, maximum_segment_size, maximum_segments, minimum_alignment, mask, boundary_mask,
                           bounce_pool_bytes, seed)
        value = c_void_p()
        call("dma_create", name.encode(), byref(options), byref(value))
        super().__init__(value)
        self._attached = {}

    def attach(self, memory, permissions=Permission.READ | Permission.WRITE):
        """Makes memory known: a writable buffer of whole, aligned pages, such as an mmap. The first page's number.

        The buffer is held until detach(): an mmap cannot be closed under the device.
        """
        view = (ctypes.c_char * len(memory)).from_buffer(memory)
        pfn = c_uint64()
        call("dma_attach", self.handle, ctypes.addressof(view), len(memory), permissions, byref(pfn))
        self._attached[pfn.value] = view
        return pfn.value

    def detach(self, pfn):
        """Takes memory back, by the number that attach() gave; KeyError: it gave none such."""
        view = self._attached[pfn]
        call("dma_detach", self.handle, ctypes.addressof(view))
        del self._attached[pfn]

    def map(self, pieces, direction):
        """Maps pieces (pfn, offset, byte_count), each a part of one page, in order; a Mapping."""
        given = (CPiece * len(pieces))(*[CPiece(*piece) for piece in pieces])
        return self._map(direction, "dma_map", given, len(pieces))

    def map_single(self, pfn, offset, byte_count, direction):
        """The same for bytes in a row."""
        return self._map(direction, "dma_map_single", pfn, offset, byte_count)

    def _map(self, direction, name, *what):
        room, count, handle = 16, c_size_t(), c_uint64()
        while True:
            segments = (CSegment * room)()
            try:
                call(name, self.handle, *what, direction, segments, room, byref(count), byref(handle))
            except OSError as error:
                if error.errno != errno.ENOBUFS or count.value <= room:
                    raise
                room = count.value
                continue
            return Mapping(self, handle.value, direction, [Segment(s.address, s.byte_count) for s in segments[:count.value]])

    def allocate_coherent(self, byte_count):
        """Memory that both sides use at the same time, as a Coherent."""
        memory, address, handle = c_void_p(), c_uint64(), c_uint64()
        call("dma_allocate_coherent", self.handle, byte_count, byref(memory), byref(address), byref(handle))
        return Coherent(self, memory.value, address.value, -(-byte_count // 4096) * 4096, handle.value)

    def iommu(self):
        """The Iommu that stands before the device, with a handle of its own. OSError with ENODEV: none does."""
        value = c_void_p()
        call("dma_iommu", self.handle, byref(value))
        return Iommu.of(value)

    def resolve(self, address, byte_count, direction):
        """The device's side: the memory behind a bus address, and how many of the bytes lie in one piece. EFAULT: refused."""
        memory, available = c_void_p(), c_uint32()
        call("dma_resolve", self.handle, address, byte_count, direction, byref(memory), byref(available))
        return memory.value, available.value

    def statistics(self):
        """Counts, by name."""
        counts = CStatistics()
        call("dma_get_statistics", self.handle, byref(counts))
        return {name: getattr(counts, name) for name, _ in CStatistics._fields_}

    def close(self):
        super().close()
        # The device reaches nothing any more.
        self._attached = {}
