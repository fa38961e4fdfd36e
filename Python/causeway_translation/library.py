"""The shared object, its functions' types, and errors. The one module that calls C."""
import ctypes
import os
from ctypes import POINTER, Structure, c_char_p, c_int, c_size_t, c_uint16, c_uint32, c_uint64, c_uint8, c_void_p

# The interface that this was written for: a library of the same major and no smaller minor version will do.
WANTED = 0x00010003


class CTranslation(Structure):
    _fields_ = [("frame", c_uint64), ("page_count", c_uint64), ("offset", c_uint32), ("permissions", c_uint32),
                ("kind", c_uint32), ("reserved", c_uint32)]


class CRun(Structure):
    _fields_ = [("pfn", c_uint64), ("page_count", c_uint64), ("frame", c_uint64), ("permissions", c_uint32), ("kind", c_uint32)]


class CReverse(Structure):
    _fields_ = [("pfn", c_uint64), ("generation", c_uint64), ("is_foreign", c_uint32), ("reserved", c_uint32)]


class CAudit(Structure):
    _fields_ = [(name, c_uint64) for name in ("local", "identity", "foreign", "ballooned", "runs", "longest_run", "inconsistent")]


class CFault(Structure):
    _fields_ = [("iova", c_uint64), ("cause", c_uint32), ("reserved", c_uint32)]


class COptions(Structure):
    _fields_ = [("model", c_uint32), ("iommu", c_uint32), ("flags", c_uint32), ("maximum_segment_size", c_uint32),
                ("maximum_segments", c_uint32), ("minimum_alignment", c_uint32), ("mask", c_uint64), ("boundary_mask", c_uint64),
                ("bounce_pool_bytes", c_uint64), ("seed", c_uint64)]


class CPiece(Structure):
    _fields_ = [("pfn", c_uint64), ("offset", c_uint32), ("byte_count", c_uint32)]


class CSegment(Structure):
    _fields_ = [("address", c_uint64), ("byte_count", c_uint32), ("reserved", c_uint32)]


class CStatistics(Structure):
    _fields_ = [(name, c_uint64) for name in ("maps", "unmaps", "live", "misuses", "bounces", "pool_slots", "pool_slots_in_use",
                                              "pool_largest_request")]


class CAddresses(Structure):
    _fields_ = [("first", c_uint64), ("last", c_uint64)]


class CSpaceInfo(Structure):
    _fields_ = [("page_sizes", c_uint64), ("mappings", c_uint64), ("mappings_left", c_uint64)]


class CAccount(Structure):
    _fields_ = [(name, c_uint64) for name in ("limit", "used", "left", "refused_bytes", "refused_count")]


class CWithdrawal(Structure):
    _fields_ = [("address", c_uint64), ("byte_count", c_uint64), ("start", c_uint64), ("length", c_uint64), ("cause", c_uint32),
                ("reserved", c_uint32)]


CListener = ctypes.CFUNCTYPE(c_int, c_void_p, c_uint32, c_void_p, c_uint64)


class CLeaves(Structure):
    _fields_ = [(name, c_uint64) for name in ("small", "large", "huge", "table_bytes")]


CMiss = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_uint64, c_uint32)


class CDumpInfo(Structure):
    _fields_ = [("is_auto_translated", c_uint32), ("guest_width", c_uint32), ("processors", c_uint64), ("entries", c_uint64),
                ("used", c_uint64), ("findings", c_uint64)]


OUT = POINTER(c_void_p)
# Functions that answer 0 or a negative errno.
CALLS = {
    "map_create": [c_uint16, c_uint32, c_uint64, c_uint64, c_uint64, OUT],
    "map_set": [c_void_p, c_uint64, c_uint64, c_uint64, c_uint32],
    "map_set_identity": [c_void_p, c_uint64, c_uint64, c_uint32],
    "map_set_permissions": [c_void_p, c_uint64, c_uint64, c_uint32],
    "map_clear": [c_void_p, c_uint64, c_uint64],
    "map_balloon_out": [c_void_p, c_uint64, c_uint64],
    "map_set_foreign": [c_void_p, c_uint64, POINTER(c_uint64), c_uint64, c_uint16, c_uint32, OUT],
    "map_translate": [c_void_p, c_uint64, c_uint64, POINTER(CTranslation)],
    "map_reverse": [c_void_p, c_uint64, POINTER(CReverse)],
    "map_range": [c_void_p, c_uint64, c_uint64, POINTER(CRun), c_size_t, POINTER(c_size_t), POINTER(c_uint64)],
    "map_audit": [c_void_p, POINTER(CAudit)],
    "dma_create": [c_char_p, POINTER(COptions), OUT],
    "dma_attach": [c_void_p, c_void_p, c_uint64, c_uint32, POINTER(c_uint64)],
    "dma_detach": [c_void_p, c_void_p],
    "dma_map": [c_void_p, POINTER(CPiece), c_size_t, c_uint32, POINTER(CSegment), c_size_t, POINTER(c_size_t), POINTER(c_uint64)],
    "dma_map_single": [c_void_p, c_uint64, c_uint32, c_uint64, c_uint32, POINTER(CSegment), c_size_t, POINTER(c_size_t), POINTER(c_uint64)],
    "dma_unmap": [c_void_p, c_uint64, c_uint32],
    "dma_sync_for_cpu": [c_void_p, c_uint64, c_uint64, c_uint64],
    "dma_sync_for_device": [c_void_p, c_uint64, c_uint64, c_uint64],
    "dma_resolve": [c_void_p, c_uint64, c_uint32, c_uint32, OUT, POINTER(c_uint32)],
    "dma_get_statistics": [c_void_p, POINTER(CStatistics)],
    "dma_flush": [c_void_p],
    "dma_stale_count": [c_void_p, POINTER(c_size_t)],
    "dma_next_fault": [c_void_p, POINTER(CFault)],
    "dma_allocate_coherent": [c_void_p, c_uint64, OUT, POINTER(c_uint64), POINTER(c_uint64)],
    "dma_free_coherent": [c_void_p, c_uint64],
    "dma_iommu": [c_void_p, OUT],
    "iommu_create_wide": [c_char_p, c_uint32, c_uint32, OUT],
    "iommu_map_at": [c_void_p, c_uint64, c_uint64, c_uint64, c_uint32],
    "iommu_unmap_at": [c_void_p, c_uint64, c_uint64],
    "iommu_get_leaves": [c_void_p, POINTER(CLeaves)],
    "iommu_on_miss": [c_void_p, CMiss, c_void_p],
    "iommu_create": [c_char_p, c_uint32, c_uint64, OUT],
    "iommu_map": [c_void_p, c_uint64, c_uint64, c_uint32, POINTER(c_uint64)],
    "iommu_unmap": [c_void_p, c_uint64, c_uint64],
    "iommu_access": [c_void_p, c_uint64, c_uint32, POINTER(c_uint64)],
    "iommu_flush": [c_void_p],
    "iommu_stale_count": [c_void_p, POINTER(c_size_t)],
    "iommu_next_fault": [c_void_p, POINTER(CFault)],
    "space_open": [c_char_p, c_uint64, OUT, c_char_p, c_size_t],
    "space_message": [c_void_p, c_char_p, c_size_t],
    "space_get_info": [c_void_p, POINTER(CSpaceInfo)],
    "space_get_account": [c_void_p, POINTER(CAccount)],
    "space_addresses": [c_void_p, c_uint32, POINTER(CAddresses), c_size_t, POINTER(c_size_t)],
    "space_map": [c_void_p, c_void_p, c_uint64, c_uint32, c_uint64, POINTER(c_uint64)],
    "space_map_descriptor": [c_void_p, c_int, c_uint64, c_uint64, c_uint32, c_uint64, POINTER(c_uint64), OUT],
    "space_unmap": [c_void_p, c_uint64, c_uint64, POINTER(c_uint64)],
    "space_unmap_all": [c_void_p, POINTER(c_uint64)],
    "space_bus_address": [c_void_p, c_void_p, c_uint64, POINTER(c_uint64), POINTER(c_uint64)],
    "space_pointer": [c_void_p, c_uint64, OUT],
    "space_start_dirty": [c_void_p],
    "space_stop_dirty": [c_void_p],
    "space_take_dirty": [c_void_p, c_uint64, c_uint64, POINTER(c_uint8), c_size_t],
    "space_access": [c_void_p, c_uint64, c_uint32, OUT],
    "space_next_fault": [c_void_p, POINTER(CFault)],
    "space_device": [c_void_p, c_char_p, POINTER(c_int)],
    "vectors_available": [c_int, c_uint32, POINTER(c_uint32)],
    "vectors_open": [c_int, c_uint32, c_uint32, OUT, c_char_p, c_size_t],
    "vectors_descriptor": [c_void_p, c_uint32],
    "vectors_take": [c_void_p, c_uint32, c_int, POINTER(c_uint64)],
    "vectors_trigger": [c_void_p, c_uint32],
    "vectors_unmask": [c_void_p],
    "registry_create": [c_uint32, OUT, c_char_p, c_size_t],
    "registry_message": [c_void_p, c_char_p, c_size_t],
    "registry_register": [c_void_p, c_void_p, c_uint64, c_uint32],
    "registry_unregister": [c_void_p, c_void_p, c_uint64],
    "registry_join": [c_void_p, c_void_p],
    "registry_leave": [c_void_p, c_void_p],
    "registry_listen": [c_void_p, CListener, c_void_p, POINTER(c_uint64)],
    "registry_end_listening": [c_void_p, c_uint64],
    "registry_get_size": [c_void_p, POINTER(c_uint64), POINTER(c_uint64)],
    "registry_next_withdrawal": [c_void_p, POINTER(CWithdrawal)],
    "dump_open": [c_char_p, OUT, c_char_p, c_size_t],
    "dump_open_descriptor": [c_int, OUT, c_char_p, c_size_t],
    "dump_open_memory": [c_void_p, c_size_t, OUT, c_char_p, c_size_t],
    "dump_get_info": [c_void_p, POINTER(CDumpInfo)],
    "dump_map": [c_void_p, OUT],
    "dump_read_pfn": [c_void_p, c_uint64, c_void_p],
    "dump_read_mfn": [c_void_p, c_uint64, c_void_p],
    "dump_finding": [c_void_p, c_uint64, c_char_p, c_size_t],
}
# Functions that cannot fail, with what they answer.
OTHERS = {
    "translation_version": ([], c_uint32), "map_destroy": ([c_void_p], None), "foreign_destroy": ([c_void_p], None),
    "map_generation": ([c_void_p], c_uint64), "map_page_limit": ([c_void_p], c_uint64), "map_is_current": ([c_void_p, c_uint64], c_int), "dma_destroy": ([c_void_p], None),
    "dma_fault_count": ([c_void_p], c_uint64), "iommu_destroy": ([c_void_p], None), "iommu_fault_count": ([c_void_p], c_uint64),
    "dump_destroy": ([c_void_p], None), "space_destroy": ([c_void_p], None), "vectors_destroy": ([c_void_p], None),
    "registry_destroy": ([c_void_p], None), "registry_withdrawal_count": ([c_void_p], c_uint64),
}


def library_path():
    """Where the shared object is: what CAUSEWAY_TRANSLATION_LIBRARY names, else beside this package, as in a wheel, else the system's."""
    here = os.path.join(os.path.dirname(__file__), "libcauseway-translation.so.1")
    return os.environ.get("CAUSEWAY_TRANSLATION_LIBRARY") or (here if os.path.exists(here) else "libcauseway-translation.so.1")


def _load():
    path = library_path()
    try:
        loaded = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(f"{path}: {error}; `make install` or the wheel brings it, CAUSEWAY_TRANSLATION_LIBRARY names another") from None
    version = loaded.causeway_translation_version
    version.restype = c_uint32
    found = version()
    if found >> 16 != WANTED >> 16 or found < WANTED:
        raise ImportError(f"{path} has interface {found >> 16}.{found & 0xFFFF}; {WANTED >> 16}.{WANTED & 0xFFFF} is needed")
    for name, types in CALLS.items():
        function = getattr(loaded, "causeway_" + name)
        function.argtypes, function.restype = types, c_int
    for name, (types, answer) in OTHERS.items():
        function = getattr(loaded, "causeway_" + name)
        function.argtypes, function.restype = types, answer
    return loaded


_loaded = _load()


def interface_version():
    """(major, minor) of the shared object's interface."""
    version = _loaded.causeway_translation_version()
    return version >> 16, version & 0xFFFF


def ask(name, *arguments):
    """A function's answer that cannot be an error."""
    return getattr(_loaded, "causeway_" + name)(*arguments)


def call(name, *arguments):
    """A function's success; its refusal is an OSError."""
    result = getattr(_loaded, "causeway_" + name)(*arguments)
    if result < 0:
        raise OSError(-result, os.strerror(-result), name)


class Handle:
    """What C calls a handle: given back once, by close(), the end of a `with`, or the collector."""

    _kind = ""
    _value = None

    def __init__(self, value):
        self._value = value

    @property
    def handle(self):
        """For C; ValueError once it is closed."""
        if self._value is None:
            raise ValueError(f"{self._kind}: closed")
        return self._value

    def close(self):
        """Ends it; more than once does nothing."""
        value, self._value = self._value, None
        if value is not None:
            ask(self._kind + "_destroy", value)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        self.close()
