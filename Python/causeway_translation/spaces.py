"""What a real device reaches, through VFIO or iommufd, and its interrupts; and a software one by the same rules."""
import ctypes
import enum
import errno
import os
from ctypes import byref, c_int, c_size_t, c_uint32, c_uint64, c_uint8, c_void_p
from typing import NamedTuple

from .iommu import Cause, Fault
from .library import CAccount, CAddresses, CFault, CSpaceInfo, Handle, ask, call
from .maps import Permission

ANYWHERE = (1 << 64) - 1
BOTH = Permission.READ | Permission.WRITE


class SpaceError(OSError):
    """A refusal, with the library's words and the errno of the header."""


class Addresses(enum.IntEnum):
    """Which addresses of a space are asked for."""
    ALLOWED = 0
    RESERVED = 1
    FREE = 2


class VectorKind(enum.IntEnum):
    """How a PCI device interrupts."""
    LINE = 0
    MSI = 1
    MSIX = 2


class Account(NamedTuple):
    """Bytes that may be locked, are, and were refused; None: no limit."""
    limit: int
    used: int
    left: int
    refused_bytes: int
    refused_count: int


class Placed(NamedTuple):
    """Where a device finds a byte, and how many from there on lie in a row for it."""
    iova: int
    in_row: int


def _or_none(number):
    return None if number == ANYWHERE else number


class Space(Handle):
    """A device's address space: "vfio-type1:/dev/vfio/12", "iommufd:/dev/vfio/devices/vfio0", "pci:0000:00:05.0", "software:48". Any thread."""
    _kind = "space"

    def __init__(self, name, budget=0):
        """budget: bytes that may be locked for it; 0: no budget."""
        words, value = ctypes.create_string_buffer(1024), c_void_p()
        try:
            call("space_open", name.encode(), budget, byref(value), words, len(words))
        except OSError as error:
            raise SpaceError(error.errno, words.value.decode() or error.strerror, name) from None
        super().__init__(value)
        self._held = {}

    def _call(self, name, *arguments):
        try:
            call("space_" + name, self.handle, *arguments)
        except OSError as error:
            words = ctypes.create_string_buffer(1024)
            ask("space_message", self.handle, words, len(words))
            raise SpaceError(error.errno, words.value.decode() or error.strerror, name) from None

    def info(self):
        """(page sizes as bits, mappings, mappings left or None)."""
        info = CSpaceInfo()
        self._call("get_info", byref(info))
        return info.page_sizes, info.mappings, _or_none(info.mappings_left)

    def account(self):
        """What is locked for it."""
        counted = CAccount()
        self._call("get_account", byref(counted))
        return Account(_or_none(counted.limit), counted.used, _or_none(counted.left), counted.refused_bytes, counted.refused_count)

    def addresses(self, which=Addresses.ALLOWED):
        """Ranges (first, last), ascending."""
        room, count = 64, c_size_t()
        while True:
            ranges = (CAddresses * room)()
            try:
                self._call("addresses", which, ranges, room, byref(count))
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                room = count.value
                continue
            return [(one.first, one.last) for one in ranges[:count.value]]

    def map(self, memory, permissions=BOTH, at=ANYWHERE):
        """Makes a writable buffer of whole, aligned pages, such as an mmap, reachable; its IO address. It is held until it is unmapped."""
        view = (ctypes.c_char * len(memory)).from_buffer(memory)
        iova = c_uint64()
        self._call("map", ctypes.addressof(view), len(memory), permissions, at, byref(iova))
        self._held[iova.value] = view
        return iova.value

    def map_descriptor(self, descriptor, offset, byte_count, permissions=BOTH, at=ANYWHERE):
        """The same for a part of a file in memory; (IO address, address in this process)."""
        iova, memory = c_uint64(), c_void_p()
        self._call("map_descriptor", descriptor, offset, byte_count, permissions, at, byref(iova), byref(memory))
        return iova.value, memory.value

    def unmap(self, iova, byte_count):
        """Ends every mapping in a range, none in part; how many bytes."""
        ended = c_uint64()
        self._call("unmap", iova, byte_count, byref(ended))
        self._held = {at: view for at, view in self._held.items() if not iova <= at < iova + byte_count}
        return ended.value

    def unmap_all(self):
        """Ends all; how many bytes."""
        ended = c_uint64()
        self._call("unmap_all", byref(ended))
        self._held = {}
        return ended.value

    def bus_address(self, address, byte_count=1):
        """Where the device finds a byte of this process, as a Placed; None: it does not."""
        iova, row = c_uint64(), c_uint64()
        try:
            call("space_bus_address", self.handle, address, byte_count, byref(iova), byref(row))
        except FileNotFoundError:
            return None
        return Placed(iova.value, row.value)

    def pointer(self, iova):
        """The address in this process of what the device finds at an IO address; None: nothing."""
        memory = c_void_p()
        try:
            call("space_pointer", self.handle, iova, byref(memory))
        except FileNotFoundError:
            return None
        return memory.value

    def start_dirty(self):
        """From here on it is recorded which pages devices write."""
        self._call("start_dirty")

    def stop_dirty(self):
        """Ends that."""
        self._call("stop_dirty")

    def take_dirty(self, iova, byte_count):
        """A bool for each page: written since this was last asked, or may have been."""
        pages = byte_count // 4096
        bits = (c_uint8 * (pages // 8 + 1))()
        self._call("take_dirty", iova, byte_count, bits, len(bits))
        return [bits[page // 8] >> page % 8 & 1 == 1 for page in range(pages)]

    def access(self, iova, permission):
        """Of a software space: a device's access to a byte; its address in this process."""
        memory = c_void_p()
        self._call("access", iova, permission, byref(memory))
        return memory.value

    def next_fault(self):
        """The oldest refused access that was not told yet; None: none."""
        fault = CFault()
        try:
            call("space_next_fault", self.handle, byref(fault))
        except FileNotFoundError:
            return None
        return Fault(fault.iova, Cause(fault.cause))

    def device(self, address=None):
        """A descriptor of a device, the caller's to close; None: of the one that the space was opened with."""
        descriptor = c_int()
        self._call("device", None if address is None else address.encode(), byref(descriptor))
        return descriptor.value

    def close(self):
        super().close()
        # The device reaches nothing any more.
        self._held = {}


class Vectors(Handle):
    """A VFIO device's interrupts, as counters."""
    _kind = "vectors"

    def __init__(self, device, kind, count):
        """device: a descriptor, as Space.device() gives."""
        words, value = ctypes.create_string_buffer(1024), c_void_p()
        try:
            call("vectors_open", device, kind, count, byref(value), words, len(words))
        except OSError as error:
            raise SpaceError(error.errno, words.value.decode() or error.strerror, f"descriptor {device}") from None
        super().__init__(value)

    @staticmethod
    def available(device, kind):
        """How many a device has."""
        count = c_uint32()
        call("vectors_available", device, kind, byref(count))
        return count.value

    def fileno(self, index):
        """A vector's eventfd, for poll."""
        descriptor = ask("vectors_descriptor", self.handle, index)
        if descriptor < 0:
            raise OSError(-descriptor, os.strerror(-descriptor), f"vector {index}")
        return descriptor

    def take(self, index, milliseconds=0):
        """Takes what a vector has counted; 0: nothing came within the time."""
        count = c_uint64()
        call("vectors_take", self.handle, index, milliseconds, byref(count))
        return count.value

    def trigger(self, index):
        """Has the kernel ring a vector, as if the device had."""
        call("vectors_trigger", self.handle, index)

    def unmask(self):
        """Lets a line ring again."""
        call("vectors_unmask", self.handle)
