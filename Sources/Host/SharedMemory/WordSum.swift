// The sum of 16-bit words that the Internet's checksums are made of (RFC 1071), over bytes in shared memory. A peer
// that changes the bytes meanwhile spoils its own packet's sum and nothing else.

/// A ones' complement sum under way.
public struct WordSum: Sendable {
    @usableFromInline var sum: UInt64 = 0
    /// Whether an odd number of bytes has been added: the next byte is a word's lower half.
    @usableFromInline var isOdd = false

    /// The sum of nothing.
    @inlinable public init() {}

    /// Adds `count` bytes.
    public mutating func add(_ region: SharedRegion, at start: Int, count: Int) {
        region.check(start, count)
        // SAFETY: the range lies in the region, which stands for the call.
        unsafe add(region.unsafeBase + start, count: count)
    }

    /// Adds the `count` bytes at `memory`.
    @unsafe
    package mutating func add(_ memory: UnsafeRawPointer, count: Int) {
        // SAFETY: every load lies in the `count` bytes, which the caller promises; the attribute asks for that.
        var position = 0
        var left = count
        if isOdd, left > 0 {
            addWord(UInt16(unsafe memory.load(as: UInt8.self)))
            position += 1
            left -= 1
            isOdd = false
        }
        // Sums of host-order words are the swapped sum of the wire's words (RFC 1071, 2(B)); folded at the end. Two
        // sums at once: each waits for its own carry only.
        var first: UInt64 = 0
        var second: UInt64 = 0
        while left >= 16 {
            let (a, carryA) = unsafe first.addingReportingOverflow(memory.loadUnaligned(fromByteOffset: position, as: UInt64.self))
            let (b, carryB) = unsafe second.addingReportingOverflow(
                memory.loadUnaligned(fromByteOffset: position &+ 8, as: UInt64.self))
            first = a &+ (carryA ? 1 : 0)
            second = b &+ (carryB ? 1 : 0)
            position &+= 16
            left &-= 16
        }
        var rest: UInt64 = 0
        while left >= 2 {
            rest &+= UInt64(unsafe memory.loadUnaligned(fromByteOffset: position, as: UInt16.self))
            position += 2
            left -= 2
        }
        for value in [first, second, rest] { sum &+= UInt64(UInt16(bigEndian: Self.fold(value))) }
        if left == 1 {
            addWord(UInt16(unsafe memory.load(fromByteOffset: position, as: UInt8.self)) << 8)
            isOdd = true
        }
    }

    /// Adds one word in the order of the wire.
    @inlinable public mutating func addWord(_ word: UInt16) { sum &+= UInt64(word) }

    /// The sum so far, not complemented.
    @inlinable public var folded: UInt16 { Self.fold(sum) }

    /// What belongs into a checksum field.
    @inlinable public var complement: UInt16 { ~folded }

    @inlinable static func fold(_ value: UInt64) -> UInt16 {
        var value = (value >> 32) &+ (value & 0xFFFF_FFFF)
        value = (value >> 16) &+ (value & 0xFFFF)
        value = (value >> 16) &+ (value & 0xFFFF)
        value = (value >> 16) &+ (value & 0xFFFF)
        return UInt16(truncatingIfNeeded: (value >> 16) &+ (value & 0xFFFF))
    }
}
