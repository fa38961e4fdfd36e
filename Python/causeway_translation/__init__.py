"""Where a Xen domain's pages are, and how a device reaches them: libcauseway-translation for Python.

    Map     a domain's frame map: pseudo-physical to bus frames and back, under three memory models
    Dma     one device queue's DMA: pages in, bus segments that the device can take out
    Iommu   an IO address space with page tables, permissions and recorded faults
    Space   what a real device reaches, through VFIO or iommufd, or a software one by the same rules
    Vectors a device's interrupts, as counters
    Registry  memory that a process has for its devices, registered once
    Dump    a file that `xl dump-core` wrote

Addresses and lengths are bytes, pfns and frames are pages of 4096. What is refused is an OSError with the errno that causeway_translation.h names
for it; nothing has changed then. Each object is a context manager, and ends by close(), too.
"""
from .dma import Dma, Mapping, Segment
from .dumps import Dump, DumpError
from .iommu import Fault, Iommu
from .library import interface_version, library_path
from .maps import Entry, Foreign, Map, Model, Permission, Reverse, Run, Translation
from .registries import Event, Registry, Withdrawal, WithdrawalCause
from .spaces import Account, Addresses, Placed, Space, SpaceError, VectorKind, Vectors

__all__ = ["Account", "Addresses", "Dma", "Dump", "DumpError", "Entry", "Event", "Fault", "Foreign", "Iommu", "Map", "Mapping", "Model", "Permission", "Placed", "Registry", "Reverse", "Run", "Segment",
           "Space", "SpaceError", "Translation", "VectorKind", "Vectors", "Withdrawal",
           "WithdrawalCause", "interface_version", "library_path"]
