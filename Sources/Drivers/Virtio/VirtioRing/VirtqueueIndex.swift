// Positions in rings. A split ring's run freely through 16 bits and wrap there, not at the ring's size; a packed ring's
// have an offset and a counter of one bit that turns with each round. Neither has an order: `<` would be wrong once in
// every 65536 entries, which a busy disk reaches in a second.

/// A free-running 16-bit position in a split ring.
public struct VirtqueueIndex: Equatable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The position, modulo 2^16.
    public var rawValue: UInt16
    /// Wraps a position.
    @inlinable @inline(__always) public init(_ rawValue: UInt16) { self.rawValue = rawValue }

    /// How many entries lie from `start` up to `end`; a position *behind* `start` shows as nearly 2^16.
    @inlinable @inline(__always)
    public static func - (end: Self, start: Self) -> UInt16 { end.rawValue &- start.rawValue }

    /// The position `count` entries on.
    @inlinable @inline(__always)
    public func advanced(by count: UInt16) -> Self { Self(rawValue &+ count) }

    /// Moves one entry on.
    @inlinable @inline(__always)
    public mutating func advance() { rawValue &+= 1 }

    /// Whether one of the `fresh` entries before this position is the one at `event` (`vring_need_event`).
    ///
    /// A ring has at most 32768 entries, so `fresh` is at most half of all positions and no event is meant twice.
    @inlinable @inline(__always)
    public func isPast(_ event: Self, within fresh: UInt16) -> Bool { rawValue &- event.rawValue &- 1 < fresh }

    /// The number in decimal.
    public var description: String { String(rawValue) }
}

/// A position in a packed ring: an offset and, in bit 15, the wrap counter, as events and vhost-user's messages have
/// it.
public struct PackedPosition: Equatable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// Offset and counter.
    public var rawValue: UInt16
    /// Any word.
    @inlinable @inline(__always) public init(rawValue: UInt16) { self.rawValue = rawValue }

    /// Where a ring begins: offset 0, counter 1.
    @inlinable public static var start: Self { Self(rawValue: 0x8000) }

    /// The entry.
    @inlinable @inline(__always) public var offset: UInt16 { rawValue & 0x7FFF }
    /// The wrap counter.
    @inlinable @inline(__always) public var wrap: Bool { rawValue & 0x8000 != 0 }

    /// Moves `count` entries on in a ring of `size`, at most one round.
    @inlinable @inline(__always)
    public mutating func advance(by count: UInt16, size: UInt16) {
        // At most 32767 and 32768: no overflow.
        let offset = offset &+ count
        rawValue = offset < size ? rawValue &+ count : (rawValue ^ 0x8000) & 0x8000 | (offset &- size)
    }

    /// Whether one of the `fresh` entries before this position is the one at `event`.
    @inlinable @inline(__always)
    public func isPast(_ event: Self, within fresh: UInt16, size: UInt16) -> Bool {
        // An event of the round before lies a ring's size behind.
        let place = event.wrap == wrap ? event.offset : event.offset &- size
        return offset &- place &- 1 < fresh
    }

    /// `7, round 1`.
    public var description: String { "\(offset), round \(wrap ? 1 : 0)" }
}
