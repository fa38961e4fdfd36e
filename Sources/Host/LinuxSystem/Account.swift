// A user of this system, and how a process becomes it.

import CLinux
import Glibc

/// A user and the group that it has.
package struct Account: Hashable, Sendable {
    /// The user's number.
    package let user: UInt32
    /// Its group; for a number without an entry in the system's list the same number.
    package let group: UInt32

    /// By name (`getpwnam(3)`); nil: there is none.
    package init?(named name: String) {
        // SAFETY: the name is lent for the call; the entry is the C library's until the next such call, and two numbers
        // are copied out of it at once. For a process's first moment, before there are other threads.
        guard let entry = unsafe getpwnam(name) else { return nil }
        (user, group) = unsafe (entry.pointee.pw_uid, entry.pointee.pw_gid)
    }

    /// By number.
    package init(user: UInt32) {
        self.user = user
        // SAFETY: as above.
        group = unsafe getpwuid(user)?.pointee.pw_gid ?? user
    }

    /// Becomes it for good, without other groups; for root.
    package func become() throws(Errno) { _ = try retryingInterrupts { causeway_become_user(user, group) } }
}
