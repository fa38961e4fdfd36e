// Steps by which a process leaves what it has in common with others: its user, its network, its core dumps. For a
// process's start, before it has other threads.

import CLinux
import Glibc

/// What a process is on its own for.
public enum Isolation {
    /// The calling process's user.
    public static var user: UInt32 { geteuid() }

    /// Gains no privileges by what it runs (`PR_SET_NO_NEW_PRIVS`), for good.
    public static func gainNothing() throws(Errno) { _ = try retryingInterrupts { causeway_no_new_privileges() } }

    /// Leaves no memory behind in a file when it dies.
    public static func leaveNoCores() throws(Errno) { _ = try retryingInterrupts { causeway_no_cores() } }

    /// Keeps others of its user out of its memory and descriptors (`PR_SET_DUMPABLE`).
    public static func hide() throws(Errno) { _ = try retryingInterrupts { causeway_set_undumpable() } }

    /// Becomes a user whose group has the same number, without other groups; capabilities stay permitted, and the end
    /// of its parent is still heard. ESRCH: the parent has ended meanwhile.
    public static func become(_ user: UInt32) throws(Errno) {
        let parent = UInt32(bitPattern: getppid())
        _ = try retryingInterrupts { causeway_become_user_keeping(user, user, parent) }
    }

    /// Goes into a network of its own with nothing in it. Sockets that are open stay where they are.
    /// - Parameter leavingUsers: whether a process that may not do that goes into a user namespace of its own for it,
    ///   where it sees every user, itself too, as nobody.
    public static func leaveNetwork(leavingUsers: Bool) throws(Errno) {
        if causeway_leave_network(0) == 0 { return }
        guard leavingUsers, errno == EPERM else { throw Errno.current }
        _ = try retryingInterrupts { causeway_leave_network(1) }
    }
}
