"""Memory that a process has for its devices, registered once; withdrawn from them when its owner takes it away without a word."""
import ctypes
import enum
from ctypes import byref, c_uint64, c_void_p
from typing import NamedTuple

from .library import CListener, CWithdrawal, Handle, ask, call
from .spaces import BOTH, SpaceError


class Event(enum.IntEnum):
    """What a listener is told."""
    REGISTERED = 0
    UNREGISTERED = 1
    WITHDRAWN = 2


class WithdrawalCause(enum.IntEnum):
    """What the owner of memory did while it was registered."""
    UNMAPPED = 0
    MOVED = 1
    DISCARDED = 2


class Withdrawal(NamedTuple):
    """A registration that was withdrawn; what of it was unmapped, moved or discarded; and which."""
    address: int
    byte_count: int
    start: int
    length: int
    cause: WithdrawalCause


class Registry(Handle):
    """Registered memory, and who is told of it. Any thread, but not from a listener."""
    _kind = "registry"

    def __init__(self, watched=False):
        """watched: memory that is unmapped, moved or discarded while it is registered is withdrawn first."""
        words, value = ctypes.create_string_buffer(1024), c_void_p()
        try:
            call("registry_create", 1 if watched else 0, byref(value), words, len(words))
        except OSError as error:
            raise SpaceError(error.errno, words.value.decode() or error.strerror, "registry") from None
        super().__init__(value)
        self._listeners = {}

    def _call(self, name, *arguments):
        try:
            call("registry_" + name, self.handle, *arguments)
        except OSError as error:
            words = ctypes.create_string_buffer(1024)
            ask("registry_message", self.handle, words, len(words))
            raise SpaceError(error.errno, words.value.decode() or error.strerror, name) from None

    def register(self, address, byte_count, permissions=BOTH):
        """Registers whole pages, by their address: whoever has them may unmap them, which is what a watched registry is for."""
        self._call("register", address, byte_count, permissions)

    def unregister(self, address, byte_count):
        """Takes whole registrations back."""
        self._call("unregister", address, byte_count)

    def join(self, space):
        """Has a Space map all that is registered, now and later."""
        self._call("join", space.handle)

    def leave(self, space):
        """Ends that."""
        self._call("leave", space.handle)

    def listen(self, listener):
        """Calls listener(event, address, byte_count) for all that is registered, comes and goes; the number for end_listening(). It refuses what is being
        registered by raising an OSError. It may be called on a thread of the library's."""
        def told(_, event, address, byte_count):
            try:
                listener(Event(event), address, byte_count)
            except OSError as error:
                return -(error.errno or 1)
            return 0

        function, number = CListener(told), c_uint64()
        self._call("listen", function, None, byref(number))
        self._listeners[number.value] = function
        return number.value

    def end_listening(self, number):
        """Ends it."""
        self._call("end_listening", number)
        del self._listeners[number]

    def size(self):
        """(registrations, bytes)."""
        count, byte_count = c_uint64(), c_uint64()
        self._call("get_size", byref(count), byref(byte_count))
        return count.value, byte_count.value

    def next_withdrawal(self):
        """The oldest one that was not told yet; None: none."""
        was = CWithdrawal()
        try:
            call("registry_next_withdrawal", self.handle, byref(was))
        except FileNotFoundError:
            return None
        return Withdrawal(was.address, was.byte_count, was.start, was.length, WithdrawalCause(was.cause))

    @property
    def withdrawal_count(self):
        """Withdrawals in all."""
        return ask("registry_withdrawal_count", self.handle)

    def close(self):
        super().close()
        self._listeners = {}
