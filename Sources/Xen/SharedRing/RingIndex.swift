// Ring positions. They run freely through 32 bits and wrap, so there is a distance between two, and no order: `<` would
// be wrong once every 2^32 entries, which a busy disk reaches in an hour.

/// A free-running 32-bit ring position (`RING_IDX`, xen/io/ring.h).
public struct RingIndex: Equatable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The position, modulo 2^32.
    public var rawValue: UInt32
    /// Wraps a position.
    @inlinable @inline(__always) public init(_ rawValue: UInt32) { self.rawValue = rawValue }

    /// How many entries lie from `start` up to `end`; a position *behind* `start` shows as nearly 2^32.
    @inlinable @inline(__always)
    public static func - (end: Self, start: Self) -> UInt32 { end.rawValue &- start.rawValue }

    /// The position `count` entries on.
    @inlinable @inline(__always)
    public func advanced(by count: UInt32) -> Self { Self(rawValue &+ count) }

    /// Moves one entry on.
    @inlinable @inline(__always)
    public mutating func advance() { rawValue &+= 1 }

    /// The number in decimal.
    public var description: String { String(rawValue) }
}
