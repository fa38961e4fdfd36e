// Which system calls a process may make. What is refused is said on stderr, and fails as if the caller had no right to
// it.

import CLinux

/// Groups of system calls; the calls are in `SystemCalls.c`.
public struct CallGroups: OptionSet, Sendable {
    /// The bits, as the C header has them.
    public let rawValue: UInt32

    /// Groups by their bits.
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Memory, threads, time, signals of one's own, and reading and writing what is open.
    public static let base = CallGroups(rawValue: UInt32(causeway_calls_base))
    /// Messages on sockets that are there.
    public static let messages = CallGroups(rawValue: UInt32(causeway_calls_messages))
    /// New sockets: Unix, IPv4, IPv6 and netlink.
    public static let sockets = CallGroups(rawValue: UInt32(causeway_calls_sockets))
    /// Files that are open: flushed, made longer, locked.
    public static let fileData = CallGroups(rawValue: UInt32(causeway_calls_file_data))
    /// Files by their paths.
    public static let files = CallGroups(rawValue: UInt32(causeway_calls_files))
    /// io_uring.
    public static let rings = CallGroups(rawValue: UInt32(causeway_calls_rings))
    /// io_uring on rings that are there.
    public static let ringUse = CallGroups(rawValue: UInt32(causeway_calls_ring_use))
    /// Other processes: started, signalled, waited for; and becoming another program.
    public static let programs = CallGroups(rawValue: UInt32(causeway_calls_programs))
    /// Namespaces, made and entered, and mounts.
    public static let namespaces = CallGroups(rawValue: UInt32(causeway_calls_namespaces))
    /// Every ioctl but those that type at a terminal; faults taken in user space.
    public static let devices = CallGroups(rawValue: UInt32(causeway_calls_devices))
    /// Being confined once more, for a program that another of this project's becomes.
    public static let confining = CallGroups(rawValue: UInt32(causeway_calls_confining))

    /// How many system calls that is, those with rules for their arguments among them.
    public var count: Int { Int(causeway_count_calls(rawValue)) }
}

/// Seccomp, as far as this project uses it.
public enum SystemCallFilter {
    /// Refuses every call that is in none of `groups`, for good and on every thread. Takes no_new_privs. A call of
    /// another ABI ends the process.
    /// - Parameter name: who the line about a refused call names: at most 23 bytes.
    public static func allow(_ groups: CallGroups, for name: String) throws(Errno) {
        // SAFETY: the name is copied during the call.
        _ = try retryingInterrupts { unsafe causeway_allow_calls(groups.rawValue, name) }
    }
}
