// An open file descriptor that closes itself. Shared ownership on purpose: a descriptor is held by the table that received it
// and by the reactor that waits on it, and the last one to let go closes.

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
        let raw = try retryingInterrupts { unsafe Glibc.open(path, flags | O_CLOEXEC, mode) }
        return Descriptor(owning: raw)
    }

    /// A second descriptor for the same open file (`F_DUPFD_CLOEXEC`).
    public func duplicate() throws(Errno) -> Descriptor {
        Descriptor(owning: try retryingInterrupts { fcntl(rawValue, F_DUPFD_CLOEXEC, 0) })
    }

    /// Adds or removes `O_NONBLOCK`.
    public func setNonBlocking(_ on: Bool) throws(Errno) {
        let flags = try retryingInterrupts { fcntl(rawValue, F_GETFL) }
        _ = try retryingInterrupts { fcntl(rawValue, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) }
    }

    /// Keeps the descriptor open across `exec`, for a child that is told its number.
    public func inheritAcrossExec() throws(Errno) {
        _ = try retryingInterrupts { fcntl(rawValue, F_SETFD, 0) }
    }

    /// `fd 7`.
    public var description: String { "fd \(rawValue)" }
}
