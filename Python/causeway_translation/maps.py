"""Frame maps."""
import enum
from ctypes import byref, c_size_t, c_uint64, c_void_p
from typing import NamedTuple

from .library import CAudit, CReverse, CRun, CTranslation, Handle, ask, call


class Model(enum.IntEnum):
    """How a domain's memory is known."""
    P2M = 0       # a table of machine frames (x86 PV): what is not in it does not exist
    IDENTITY = 1  # pseudo-physical is machine
    VP = 2        # auto-translated


class Permission(enum.IntFlag):
    """What may be done with a page."""
    NONE = 0
    READ = 1
    WRITE = 2


class Entry(enum.IntEnum):
    """What stands at a page."""
    NONE = 0
    BALLOONED = 1
    IDENTITY = 2
    LOCAL = 3
    FOREIGN = 4


class Translation(NamedTuple):
    """Where an address is: a bus frame, the byte in it, and how many pages go on alike."""
    frame: int
    offset: int
    page_count: int
    permissions: Permission
    kind: Entry


class Run(NamedTuple):
    """Pages in a row that are alike; frame is None where there is none."""
    pfn: int
    page_count: int
    frame: int
    permissions: Permission
    kind: Entry


class Reverse(NamedTuple):
    """Which page has a frame; generation is for Map.is_current."""
    pfn: int
    generation: int
    is_foreign: bool


class Foreign(Handle):
    """Another domain's pages in a map; they leave it when this is closed."""
    _kind = "foreign"


class Map(Handle):
    """A domain's frame map. Look-ups from any thread at any time; changes wait for each other."""
    _kind = "map"

    def __init__(self, owner, model, *, pfn_limit, frame_limit, own_frames=0):
        """An empty one. Limits are one past the largest number; own_frames: pages that the domain has under IDENTITY and VP."""
        value = c_void_p()
        call("map_create", owner, model, pfn_limit, frame_limit, own_frames, byref(value))
        super().__init__(value)

    @classmethod
    def _of(cls, value):
        made = cls.__new__(cls)
        Handle.__init__(made, value)
        return made

    def set(self, pfn, page_count, frame, permissions=Permission.READ | Permission.WRITE):
        """Maps own pages onto frames in a row; all or none."""
        call("map_set", self.handle, pfn, page_count, frame, permissions)

    def set_identity(self, pfn, page_count, permissions=Permission.READ | Permission.WRITE):
        """Records pages that are no memory and have the same number on the bus."""
        call("map_set_identity", self.handle, pfn, page_count, permissions)

    def set_permissions(self, pfn, page_count, permissions):
        """Of mapped pages."""
        call("map_set_permissions", self.handle, pfn, page_count, permissions)

    def clear(self, pfn, page_count):
        """Takes own pages out."""
        call("map_clear", self.handle, pfn, page_count)

    def balloon_out(self, pfn, page_count):
        """Gives pages back, so that foreign ones can be placed there."""
        call("map_balloon_out", self.handle, pfn, page_count)

    def set_foreign(self, pfn, frames, owner, permissions=Permission.READ | Permission.WRITE):
        """Places another domain's frames, one for each page; a Foreign."""
        numbers, value = (c_uint64 * len(frames))(*frames), c_void_p()
        call("map_set_foreign", self.handle, pfn, numbers, len(frames), owner, permissions, byref(value))
        return Foreign(value)

    def translate(self, address, page_count=1):
        """Where a pseudo-physical address is, looking at up to so many pages; None: nothing is there."""
        found = CTranslation()
        try:
            call("map_translate", self.handle, address, page_count, byref(found))
        except FileNotFoundError:
            return None
        return Translation(found.frame, found.offset, found.page_count, Permission(found.permissions), Entry(found.kind))

    def reverse(self, frame):
        """The page that has a bus frame; None: none."""
        found = CReverse()
        try:
            call("map_reverse", self.handle, frame, byref(found))
        except FileNotFoundError:
            return None
        return Reverse(found.pfn, found.generation, bool(found.is_foreign))

    @property
    def page_limit(self):
        """One past the largest page number that it can have; of a dump's map, that it has."""
        return ask("map_page_limit", self.handle)

    def runs(self, pfn=0, page_count=None):
        """The runs of a range, present or not, in order; without a count to the map's end."""
        room, count, here = (CRun * 256)(), c_size_t(), c_uint64(pfn)
        end = self.page_limit if page_count is None else pfn + page_count
        while here.value < end:
            call("map_range", self.handle, here.value, end - here.value, room, len(room), byref(count), byref(here))
            for run in room[:count.value]:
                has_frame = run.kind in (Entry.IDENTITY, Entry.LOCAL, Entry.FOREIGN)
                yield Run(run.pfn, run.page_count, run.frame if has_frame else None, Permission(run.permissions), Entry(run.kind))

    @property
    def generation(self):
        """Goes up with each change after which an earlier answer may be wrong."""
        return ask("map_generation", self.handle)

    def is_current(self, generation):
        """Whether all answers given at that generation still hold."""
        return bool(ask("map_is_current", self.handle, generation))

    def audit(self):
        """Counts of pages and runs; `inconsistent` is 0 unless something is broken."""
        counts = CAudit()
        call("map_audit", self.handle, byref(counts))
        return {name: getattr(counts, name) for name, _ in CAudit._fields_}
