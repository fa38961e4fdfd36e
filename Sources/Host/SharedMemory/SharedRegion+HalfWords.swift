// Atomics of 16 bits: virtqueues count in them. In the host's order, as the words of 32 bits are; an index that a guest
// reads is little-endian, and that is the codec's business.

import Synchronization

extension SharedRegion {
    /// The half-word at `offset`; for use within an expression, while the caller holds the region.
    @inlinable @inline(__always)
    func atomic16(_ offset: Int) -> UnsafePointer<Atomic<UInt16>> {
        check(offset, 2)
        precondition(offset & 1 == 0, "a 16-bit atomic must be aligned")
        // SAFETY: two bytes, checked and aligned (a region begins at a page's start); an atomic of 16 bits has a
        // half-word's layout.
        return unsafe UnsafePointer((base + offset).assumingMemoryBound(to: Atomic<UInt16>.self))
    }

    /// Loads a half-word; what the peer stored before releasing it is visible afterwards.
    @inlinable @inline(__always)
    public func loadAcquiring16(_ offset: Int) -> UInt16 { unsafe atomic16(offset).pointee.load(ordering: .acquiring) }

    /// Loads a half-word with no order against other accesses.
    @inlinable @inline(__always)
    public func loadRelaxed16(_ offset: Int) -> UInt16 { unsafe atomic16(offset).pointee.load(ordering: .relaxed) }

    /// Stores a half-word; earlier stores are visible to whoever acquires it.
    @inlinable @inline(__always)
    public func storeReleasing16(_ value: UInt16, at offset: Int) {
        unsafe atomic16(offset).pointee.store(value, ordering: .releasing)
    }

    /// Stores a half-word with no order against other accesses.
    @inlinable @inline(__always)
    public func storeRelaxed16(_ value: UInt16, at offset: Int) {
        unsafe atomic16(offset).pointee.store(value, ordering: .relaxed)
    }
}
