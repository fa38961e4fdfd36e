// Which chains are out. A driver that makes one available twice would have its device answer it twice, and what is kept
// of chains by their names would be of two.

import SharedMemory

/// A set of 16-bit numbers, a bit each, in memory of its own.
@usableFromInline
struct IdentitySet: ~Copyable {
    @usableFromInline let words = OwnedState(InlineArray<1024, UInt64>(repeating: 0))
    @usableFromInline var count = 0

    @usableFromInline init() {}

    @inlinable @inline(__always)
    func contains(_ id: UInt16) -> Bool { words.value[Int(id >> 6)] >> UInt64(id & 63) & 1 != 0 }

    /// False if it is there already.
    @inlinable @inline(__always)
    mutating func insert(_ id: UInt16) -> Bool {
        guard !contains(id) else { return false }
        words.value[Int(id >> 6)] |= 1 << UInt64(id & 63)
        count &+= 1
        return true
    }

    /// False if it is not there.
    @inlinable @inline(__always)
    mutating func remove(_ id: UInt16) -> Bool {
        guard contains(id) else { return false }
        words.value[Int(id >> 6)] &= ~(1 << UInt64(id & 63))
        count &-= 1
        return true
    }
}
