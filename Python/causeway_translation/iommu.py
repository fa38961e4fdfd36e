"""A software IOMMU, and the faults that one records."""
import enum
from ctypes import byref, c_size_t, c_uint64, c_void_p
from typing import NamedTuple

from .library import CFault, Handle, ask, call


class IommuMode(enum.IntEnum):
    """When the IOTLB forgets what is unmapped: there is none, at once, in batches."""
    OFF = 0
    STRICT = 1
    DEFERRED = 2


class Cause(enum.IntEnum):
    """What an IOMMU refuses a device."""
    NOT_MAPPED = 0
    READ_DENIED = 1
    WRITE_DENIED = 2
    NO_MEMORY = 3
    REPORTED = 4


class Fault(NamedTuple):
    """A device's access that was refused."""
    iova: int
    cause: Cause


class Faulting(Handle):
    """What records faults and may be behind with forgetting."""

    def flush(self):
        """Forgets what was unmapped, in deferred mode: until then the device reaches it."""
        call(self._kind + "_flush", self.handle)

    @property
    def stale_count(self):
        """Ranges that are unmapped and that the device may still reach."""
        count = c_size_t()
        call(self._kind + "_stale_count", self.handle, byref(count))
        return count.value

    def next_fault(self):
        """The oldest one that was not told yet; None: none. 64 are kept."""
        fault = CFault()
        try:
            call(self._kind + "_next_fault", self.handle, byref(fault))
        except FileNotFoundError:
            return None
        return Fault(fault.iova, Cause(fault.cause))

    @property
    def fault_count(self):
        """Faults in all."""
        return ask(self._kind + "_fault_count", self.handle)


class Iommu(Faulting):
    """An IO address space. One thread at a time."""
    _kind = "iommu"

    def __init__(self, name, mode=IommuMode.STRICT, mask=(1 << 39) - 1):
        """mask: the largest address that the device can send."""
        value = c_void_p()
        call("iommu_create", name.encode(), mode, mask, byref(value))
        super().__init__(value)

    def map(self, frame, page_count, permissions):
        """Maps frames in a row at an IO address that is chosen, which it returns."""
        iova = c_uint64()
        call("iommu_map", self.handle, frame, page_count, permissions, byref(iova))
        return iova.value

    def unmap(self, iova, page_count):
        """Ends a mapping: exactly one that was made."""
        call("iommu_unmap", self.handle, iova, page_count)

    def access(self, iova, permission):
        """A device's access to one byte: its bus address. OSError with EFAULT: refused, and recorded."""
        address = c_uint64()
        call("iommu_access", self.handle, iova, permission, byref(address))
        return address.value
