"""Dumps of `xl dump-core`."""
import ctypes
import os
from ctypes import byref, c_void_p

from .library import CDumpInfo, Handle, call
from .maps import Map


class DumpError(OSError):
    """What is wrong with a dump, and where."""


def _words(name, *arguments):
    message = ctypes.create_string_buffer(512)
    value = c_void_p()
    try:
        call(name, *arguments, byref(value), message, len(message))
    except OSError as error:
        raise DumpError(error.errno, message.value.decode(errors="replace")) from None
    return value


class Dump(Handle):
    """A dump of a domain. Its header and table are read when it is opened, pages when they are asked for. Any thread."""
    _kind = "dump"
    _bytes = None

    def __init__(self, path):
        """Opens a file; DumpError says what is wrong, and where."""
        super().__init__(_words("dump_open", os.fsencode(path)))

    @classmethod
    def from_descriptor(cls, descriptor):
        """Of an open file, which stays the caller's; it must allow reading, and seeking."""
        return cls._of(_words("dump_open_descriptor", descriptor))

    @classmethod
    def from_bytes(cls, data):
        """Of bytes in memory, which are kept and not copied."""
        made = cls._of(_words("dump_open_memory", data, len(data)))
        made._bytes = data
        return made

    @classmethod
    def _of(cls, value):
        made = cls.__new__(cls)
        Handle.__init__(made, value)
        return made

    def _info(self):
        info = CDumpInfo()
        call("dump_get_info", self.handle, byref(info))
        return info

    @property
    def is_auto_translated(self):
        """HVM, PVH or Arm; else PV."""
        return bool(self._info().is_auto_translated)

    @property
    def guest_width(self):
        """Bytes in a word of the guest: 4 or 8."""
        return self._info().guest_width

    @property
    def processors(self):
        """How many the domain had."""
        return self._info().processors

    @property
    def page_count(self):
        """Entries of its table that name a page."""
        return self._info().used

    @property
    def findings(self):
        """What is wrong with it, in words; the first 64 of as many as there are."""
        message, found = ctypes.create_string_buffer(512), []
        for index in range(min(self._info().findings, 64)):
            call("dump_finding", self.handle, index, message, len(message))
            found.append(message.value.decode(errors="replace"))
        return found

    def map(self):
        """The dump's frame map, read-only; it may outlive the dump."""
        value = c_void_p()
        call("dump_map", self.handle, byref(value))
        return Map._of(value)

    def read_pfn(self, pfn):
        """A page's 4096 bytes; None: it is not in the dump."""
        return self._page("dump_read_pfn", pfn)

    def read_mfn(self, mfn):
        """The same by machine frame."""
        return self._page("dump_read_mfn", mfn)

    def _page(self, name, number):
        page = ctypes.create_string_buffer(4096)
        try:
            call(name, self.handle, number, page)
        except FileNotFoundError:
            return None
        return page.raw

    def close(self):
        super().close()
        self._bytes = None
