// The Internet checksum (RFC 1071) over bytes in shared memory. A peer that changes the bytes meanwhile spoils its own packet's sum and
// nothing else.

import SharedMemory

/// A sum under way.
public struct InternetChecksum: Sendable {
    private var sum: UInt64 = 0
    /// Whether an odd number of bytes has been added: the next byte is a word's lower half.
    private var isOdd = false

    /// The sum of nothing.
    public init() {}

    /// Adds `count` bytes.
    public mutating func add(_ region: SharedRegion, at start: Int, count: Int) {
        var position = start
        var left = count
        if isOdd, left > 0 {
            addWord(UInt16(region.load(position, as: UInt8.self)))
            position += 1
            left -= 1
            isOdd = false
        }
        // Sums of host-order words are the swapped sum of the wire's words (RFC 1071, 2(B)); folded at the end.
        var native: UInt64 = 0
        while left >= 8 {
            let word: UInt64 = region.load(position)
            let (next, carry) = native.addingReportingOverflow(word)
            native = next &+ (carry ? 1 : 0)
            position &+= 8
            left &-= 8
        }
        var rest: UInt64 = 0
        while left >= 2 {
            rest &+= UInt64(region.load(position, as: UInt16.self))
            position += 2
            left -= 2
        }
        sum &+= UInt64(UInt16(bigEndian: Self.fold(native)))
        sum &+= UInt64(UInt16(bigEndian: Self.fold(rest)))
        if left == 1 {
            addWord(UInt16(region.load(position, as: UInt8.self)) << 8)
            isOdd = true
        }
    }

    /// Adds one word in the order of the wire.
    public mutating func addWord(_ word: UInt16) { sum &+= UInt64(word) }

    /// The sum so far, not complemented.
    public var folded: UInt16 { Self.fold(sum) }

    /// What belongs into a checksum field.
    public var complement: UInt16 { ~folded }

    private static func fold(_ value: UInt64) -> UInt16 {
        var value = (value >> 32) &+ (value & 0xFFFF_FFFF)
        value = (value >> 16) &+ (value & 0xFFFF)
        value = (value >> 16) &+ (value & 0xFFFF)
        value = (value >> 16) &+ (value & 0xFFFF)
        return UInt16(truncatingIfNeeded: (value >> 16) &+ (value & 0xFFFF))
    }
}

extension FrameHeaders {
    /// The pseudo header's sum over a transport header and payload of `count` bytes, not complemented: what a blank checksum field holds.
    public func pseudoHeaderSum(in region: SharedRegion, at offset: Int, count: Int) -> UInt16 {
        var sum = InternetChecksum()
        switch network {
        case .ipv4: sum.add(region, at: offset + networkOffset + 12, count: 8)
        case .ipv6: sum.add(region, at: offset + networkOffset + 8, count: 32)
        }
        sum.addWord(transport == .tcp ? 6 : 17)
        sum.addWord(UInt16(truncatingIfNeeded: count))
        return sum.folded
    }
}
