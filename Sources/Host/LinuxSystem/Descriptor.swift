// An open file descriptor that closes itself. Shared ownership on purpose: a descriptor is held by the table that
// received it and by the reactor that waits on it, and the last one to let go closes.

import CLinux
import Glibc
import Synchronization

/// An owned, open file descriptor.
public final class Descriptor: Sendable, CustomStringConvertible {
    /// The kernel's number for it; valid as long as this object lives.
    public let rawValue: Int32

    /// Takes ownership of `rawValue`.
    public init(owning rawValue: Int32) {
        self.rawValue = rawValue
        Self.open.wrappingAdd(1, ordering: .relaxed)
    }

    deinit {
        _ = Glibc.close(rawValue)
        Self.open.wrappingSubtract(1, ordering: .relaxed)
    }

    private static let open = Atomic<Int>(0)

    /// How many descriptors this process owns through this type; tests hold it against a baseline.
    public static var openCount: Int { open.load(ordering: .relaxed) }

    /// Opens `path` with the flags of `open(2)`, close-on-exec added.
    public static func open(_ path: String, _ flags: Int32, mode: mode_t = 0o600) throws(Errno) -> Descriptor {
        // SAFETY: the path is lent for the call.
        let raw = try retryingInterrupts { unsafe Glibc.open(path, flags | O_CLOEXEC, mode) }
        return Descriptor(owning: raw)
    }

    /// Opens /dev/null where standard input, output or error is closed, as it is under some supervisors: else the next
    /// file or socket would have such a number, and what is printed would go into it. For a process's first moment.
    public static func openMissingStandard() {
        for number: Int32 in 0...2 where fcntl(number, F_GETFD) < 0 {
            // SAFETY: the path is a constant. The lowest free number is taken, which is this one.
            _ = unsafe Glibc.open("/dev/null", O_RDWR)
        }
    }

    /// A second descriptor for the same open file (`F_DUPFD_CLOEXEC`).
    public func duplicate() throws(Errno) -> Descriptor { try Self.duplicate(of: rawValue) }

    /// One of this process's own for somebody else's number.
    public static func duplicate(of number: Int32) throws(Errno) -> Descriptor {
        Descriptor(owning: try retryingInterrupts { fcntl(number, F_DUPFD_CLOEXEC, 0) })
    }

    /// Adds or removes `O_NONBLOCK`.
    public func setNonBlocking(_ on: Bool) throws(Errno) {
        let flags = try retryingInterrupts { fcntl(rawValue, F_GETFL) }
        _ = try retryingInterrupts { fcntl(rawValue, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) }
    }

    /// Has it closed when this process becomes another program, as every descriptor is that is made here.
    package func closeOnExec() { _ = fcntl(rawValue, F_SETFD, FD_CLOEXEC) }

    /// `fd 7`.
    public var description: String { "fd \(rawValue)" }
}
