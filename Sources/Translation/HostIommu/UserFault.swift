// One registration's userfaultfd: events of memory that is unmapped, moved or discarded.

import CLinux
import LinuxSystem

/// Events of one piece of memory.
final class UserFault: Sendable {
    let descriptor: Descriptor

    /// Throws why there is none here.
    init() throws(Errno) {
        let raw = causeway_userfault_open()
        guard raw >= 0 else { throw Errno(-raw) }
        descriptor = Descriptor(owning: raw)
    }

    /// Watches whole pages from now on. EBUSY: another userfaultfd does. EINVAL: memory of a kind that cannot be.
    func watch(_ address: UInt64, byteCount: UInt64) throws(Errno) {
        let result = causeway_userfault_watch(descriptor.rawValue, address, byteCount)
        if result < 0 { throw Errno(-result) }
    }

    /// The next event; whoever caused it goes on from here. nil: none waits.
    func next() -> (cause: Withdrawal.Cause, start: UInt64, length: UInt64)? {
        let event = causeway_userfault_next(descriptor.rawValue)
        guard let cause = Withdrawal.Cause(rawValue: UInt32(bitPattern: event.cause)) else { return nil }
        return (cause, event.start, event.length)
    }
}
