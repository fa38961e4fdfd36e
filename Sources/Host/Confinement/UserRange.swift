// The users that domains' processes become.

/// A range of user numbers that nobody else has.
public struct UserRange: Hashable, Sendable, CustomStringConvertible {
    /// The lowest.
    public let first: UInt32
    /// How many.
    public let count: UInt32

    /// What systemd's list of numbers has as unused, and Debian does not know: as many as there can be processes, so
    /// that no two that run have the same (`PID_MAX_LIMIT`).
    public static let standard = UserRange(first: 0x7000_0000, count: 1 << 22)

    init(first: UInt32, count: UInt32) {
        self.first = first
        self.count = count
    }

    /// `FIRST-LAST`; nil if it is no such thing, or has root or the number that means nobody in it.
    public init?(_ text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let first = UInt32(parts[0]), let last = UInt32(parts[1]), first > 0, first <= last, last < .max
        else { return nil }
        self.init(first: first, count: last - first + 1)
    }

    /// The user of a process: in a range that is as large as the kernel's of processes, its alone.
    public func user(of process: Int32) -> UInt32 { first + UInt32(bitPattern: process) % count }

    /// `FIRST-LAST`.
    public var description: String { "\(first)-\(first + (count - 1))" }
}
