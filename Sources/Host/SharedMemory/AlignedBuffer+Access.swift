// A buffer as a place for messages: integers in network order, and copies to and from a region.

import Glibc

extension AlignedBuffer {
    /// One integer in network order, at any alignment.
    @inline(__always)
    package func loadBig<N: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as type: N.Type = N.self) -> N {
        // SAFETY: `bytes` checks the range; `loadUnaligned` asks for no alignment of plain integers.
        N(bigEndian: unsafe bytes(from: offset, count: MemoryLayout<N>.size).loadUnaligned(as: N.self))
    }

    /// Stores one integer in network order, at any alignment.
    @inline(__always)
    package func storeBig<N: FixedWidthInteger & BitwiseCopyable>(_ value: N, at offset: Int) {
        // SAFETY: as above.
        unsafe bytes(from: offset, count: MemoryLayout<N>.size).storeBytes(of: value.bigEndian, as: N.self)
    }

    /// Stores bytes from `offset` on.
    package func store(_ source: [UInt8], at offset: Int) {
        // SAFETY: `bytes` checks the range, which an array of its own cannot overlap.
        unsafe source.withUnsafeBytes { source in
            guard let base = unsafe source.baseAddress else { return }
            unsafe bytes(from: offset, count: source.count).copyMemory(from: base, byteCount: source.count)
        }
    }

    /// A copy of `count` bytes from `offset` on.
    package func copy(from offset: Int, count: Int) -> [UInt8] {
        // SAFETY: `bytes` checks the range, and it is copied before anybody can let go of the buffer.
        unsafe [UInt8](UnsafeRawBufferPointer(start: bytes(from: offset, count: count), count: count))
    }

    /// Moves `count` bytes from `offset` on to the buffer's start.
    package func moveToStart(from offset: Int, count: Int) {
        // SAFETY: `bytes` checks both ranges, which may overlap.
        _ = unsafe memmove(bytes(from: 0, count: count), bytes(from: offset, count: count), count)
    }

    /// Copies `count` bytes from `offset` on into a region.
    package func copy(from offset: Int, count: Int, to region: SharedRegion, at place: Int) {
        region.check(place, count)
        // SAFETY: both ranges are checked; a region is no part of a buffer's allocation.
        unsafe (region.base + place).copyMemory(from: bytes(from: offset, count: count), byteCount: count)
    }

    /// Copies `count` bytes of a region into the buffer, from `offset` on.
    package func copy(to offset: Int, count: Int, from region: SharedRegion, at place: Int) {
        region.check(place, count)
        // SAFETY: as above.
        unsafe bytes(from: offset, count: count).copyMemory(from: region.base + place, byteCount: count)
    }
}

extension VectorList {
    /// One more run: `count` bytes of a buffer, which whoever loads the list keeps.
    package func append(_ buffer: AlignedBuffer, at offset: Int, count: Int) {
        // SAFETY: `bytes` checks the range; see above for how long.
        unsafe append(buffer.bytes(from: offset, count: count), count)
    }

    /// One more run: `count` bytes of a region, which whoever loads the list keeps.
    package func append(_ region: SharedRegion, at offset: Int, count: Int) {
        region.check(offset, count)
        // SAFETY: as above.
        unsafe append(region.base + offset, count)
    }
}
