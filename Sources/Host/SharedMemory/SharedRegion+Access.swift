// Loads, stores, copies and atomics over a shared region. Multi-byte integers are in the host's order, as Xen's ABI has
// them.

import CLinux
import Glibc
import Synchronization

extension SharedRegion {
    /// Loads one integer, each byte once, at any alignment.
    @inlinable @inline(__always)
    public func load<N: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as type: N.Type = N.self) -> N {
        check(offset, MemoryLayout<N>.size)
        var value: N = 0
        // SAFETY: both sides have the size of an integer: checked here, and the variable's own.
        unsafe withUnsafeMutableBytes(of: &value) { bytes in
            unsafe causeway_copy_once(bytes.baseAddress, base + offset, MemoryLayout<N>.size)
        }
        return value
    }

    /// Stores one integer at any alignment.
    @inlinable @inline(__always)
    public func store<N: FixedWidthInteger & BitwiseCopyable>(_ value: N, at offset: Int) {
        check(offset, MemoryLayout<N>.size)
        // SAFETY: checked; `storeBytes` asks for no alignment of plain integers.
        unsafe (base + offset).storeBytes(of: value, as: N.self)
    }

    /// Copies a plain value out of the region, each byte loaded exactly once. Any bytes must be a value of `T`
    /// (integers and arrays of them, C structures of such), and it must have no padding that is looked at.
    @inlinable @inline(__always)
    public func copyIn<T: BitwiseCopyable>(_ offset: Int, into value: inout T, byteCount count: Int) {
        check(offset, count)
        precondition(count <= MemoryLayout<T>.size)
        // SAFETY: `count` bytes are in the region and in the value, as checked; any bytes are one.
        unsafe withUnsafeMutableBytes(of: &value) { bytes in
            unsafe causeway_copy_once(bytes.baseAddress, base + offset, count)
        }
    }

    /// Copies a plain value into the region.
    @inlinable @inline(__always)
    public func copyOut<T: BitwiseCopyable>(_ value: T, byteCount count: Int, at offset: Int) {
        check(offset, count)
        precondition(count <= MemoryLayout<T>.size)
        // SAFETY: `count` bytes are in the region and in the value, as checked.
        unsafe withUnsafeBytes(of: value) { bytes in
            // A value's bytes always have an address.
            // swift-format-ignore: NeverForceUnwrap
            unsafe (base + offset).copyMemory(from: bytes.baseAddress!, byteCount: count)
        }
    }

    /// Copies a plain value into the region from where it stands: it is not changed, only not moved first.
    @inlinable @inline(__always)
    public func copyOut<T: BitwiseCopyable>(from value: inout T, byteCount count: Int, at offset: Int) {
        check(offset, count)
        precondition(count <= MemoryLayout<T>.size)
        // SAFETY: `count` bytes are in the region and in the value, as checked, which stays where it is for the call.
        unsafe withUnsafeMutableBytes(of: &value) { bytes in
            // A value's bytes always have an address.
            // swift-format-ignore: NeverForceUnwrap
            unsafe (base + offset).copyMemory(from: bytes.baseAddress!, byteCount: count)
        }
    }

    /// Copies `count` bytes from `offset` on into private memory.
    public func bytes(at offset: Int, count: Int) -> [UInt8] {
        check(offset, count)
        // SAFETY: the buffer has room for `count` bytes, all of which are filled before they count as initialized.
        return unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            if count > 0 { unsafe causeway_copy_once(buffer.baseAddress, base + offset, count) }
            initialized = count
        }
    }

    /// Copies private bytes into the region at `offset`.
    public func write(_ bytes: [UInt8], at offset: Int) {
        check(offset, bytes.count)
        // SAFETY: as many bytes as were checked; the array lends them for the call.
        unsafe bytes.withUnsafeBytes { source in
            if let start = source.baseAddress {
                unsafe (base + offset).copyMemory(from: start, byteCount: source.count)
            }
        }
    }

    /// Copies the bytes of `source` into the region at `offset`.
    @inlinable
    public func write(_ source: RawSpan, at offset: Int) {
        check(offset, source.byteCount)
        // SAFETY: as many bytes as were checked; the span's memory is there for as long as the span, and may be the
        // region's own: a memmove.
        unsafe source.withUnsafeBytes { bytes in
            if let start = bytes.baseAddress {
                unsafe (base + offset).copyMemory(from: start, byteCount: bytes.count)
            }
        }
    }

    /// Fills `destination` from the region at `offset`. Bulk data: bytes may be loaded more than once, so nothing may
    /// be decided on them that the peer could profit from changing.
    @inlinable
    public func read(_ offset: Int, into destination: inout MutableRawSpan) {
        check(offset, destination.byteCount)
        // SAFETY: as many bytes as were checked; the span's memory is there for as long as the span, and may be the
        // region's own: a memmove.
        unsafe destination.withUnsafeMutableBytes { bytes in
            if let start = bytes.baseAddress {
                unsafe start.copyMemory(from: base + offset, byteCount: bytes.count)
            }
        }
    }

    /// Copies `count` bytes of `source` at `start` to `offset` here. Bulk data: each byte of a page that a peer writes
    /// may be loaded more than once, so only the copy may be decided on.
    @inlinable
    public func copy(from source: SharedRegion, _ start: Int, count: Int, to offset: Int) {
        check(offset, count)
        source.check(start, count)
        // SAFETY: both sides are checked, each in its own region. A memmove, for both may be the same.
        unsafe (base + offset).copyMemory(from: source.base + start, byteCount: count)
    }

    /// Sets `count` bytes from `offset` on to `value`.
    public func fill(_ offset: Int, count: Int, with value: UInt8 = 0) {
        check(offset, count)
        // SAFETY: `count` bytes from `offset` on are in the region, as checked.
        unsafe _ = memset(base + offset, Int32(value), count)
    }

    /// The word at `offset`; for use within an expression, while the caller holds the region.
    @inlinable @inline(__always)
    func atomic32(_ offset: Int) -> UnsafePointer<Atomic<UInt32>> {
        check(offset, 4)
        precondition(offset & 3 == 0, "a 32-bit atomic must be aligned")
        // SAFETY: four bytes, checked and aligned (a region begins at a page's start); an atomic of 32 bits has a
        // word's layout.
        return unsafe UnsafePointer((base + offset).assumingMemoryBound(to: Atomic<UInt32>.self))
    }

    /// Loads a 32-bit word; what the peer stored before releasing it is visible afterwards.
    @inlinable @inline(__always)
    public func loadAcquiring(_ offset: Int) -> UInt32 { unsafe atomic32(offset).pointee.load(ordering: .acquiring) }

    /// Loads a 32-bit word with no order against other accesses.
    @inlinable @inline(__always)
    public func loadRelaxed(_ offset: Int) -> UInt32 { unsafe atomic32(offset).pointee.load(ordering: .relaxed) }

    /// Stores a 32-bit word; earlier stores are visible to whoever acquires it.
    @inlinable @inline(__always)
    public func storeReleasing(_ value: UInt32, at offset: Int) {
        unsafe atomic32(offset).pointee.store(value, ordering: .releasing)
    }

    /// Stores a 32-bit word with no order against other accesses.
    @inlinable @inline(__always)
    public func storeRelaxed(_ value: UInt32, at offset: Int) {
        unsafe atomic32(offset).pointee.store(value, ordering: .relaxed)
    }

    /// Replaces `expected` by `desired`; returns what was found, which equals `expected` if the exchange took place.
    @inlinable
    public func compareExchange(_ offset: Int, expected: UInt32, desired: UInt32) -> UInt32 {
        unsafe atomic32(offset).pointee.compareExchange(
            expected: expected, desired: desired, ordering: .sequentiallyConsistent
        ).original
    }
}

/// Orders every earlier access before every later one (Xen's `xen_mb`).
@inlinable @inline(__always)
public func fullFence() { atomicMemoryFence(ordering: .sequentiallyConsistent) }

/// What was stored to memory before is there for a device that a register is stored to after it: a doorbell.
@inline(__always)
public func deviceWriteFence() { causeway_device_write_fence() }
