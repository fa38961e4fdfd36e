"""A software IOMMU, and the faults that one records."""
import enum
from ctypes import byref, c_size_t, c_uint64, c_void_p
from typing import NamedTuple

from .library import CFault, CLeaves, CMiss, Handle, ask, call


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
        self._miss = None

    @classmethod
    def wide(cls, name, address_bits, mode=IommuMode.STRICT):
        """One with addresses of 21 to 57 bits."""
        value = c_void_p()
        call("iommu_create_wide", name.encode(), mode, address_bits, byref(value))
        return cls.of(value)

    @classmethod
    def of(cls, value):
        """For a handle that C gave."""
        made = cls.__new__(cls)
        Handle.__init__(made, value)
        made._miss = None
        return made

    def map_at(self, iova, frame, page_count, permissions):
        """Maps frames in a row at an address of one's own choice."""
        call("iommu_map_at", self.handle, iova, frame, page_count, permissions)

    def unmap_at(self, iova, page_count):
        """Ends what lies there of such mappings, also a part of one."""
        call("iommu_unmap_at", self.handle, iova, page_count)

    def leaves(self):
        """(pages of 4 KiB, of 2 MiB, of 1 GiB, bytes of tables)."""
        counted = CLeaves()
        call("iommu_get_leaves", self.handle, byref(counted))
        return counted.small, counted.large, counted.huge, counted.table_bytes

    def on_miss(self, handler):
        """Calls handler(iova, permission) for an access to what is not mapped, which may map it; None: nobody is asked."""
        def asked(_, __, iova, permission):
            handler(iova, permission)
            return 0

        function = CMiss(asked) if handler else CMiss()
        call("iommu_on_miss", self.handle, function, None)
        self._miss = function

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
