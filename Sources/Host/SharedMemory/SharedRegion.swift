// A mapping that a peer may write at any time. This is the one place that loads from or stores to shared memory: no
// pointer, span or reference into it leaves the module except through `unsafeBase`, for the device side and for system
// calls.
//
// Two rules that this file exists to make true:
//   1. Every access names an offset, which is checked against the region before memory is touched. Offsets come from
//      our own
//      code or from validated input, so a bad one is our bug and traps.
//   2. What a peer wrote is copied to private memory exactly once, and only the copy is looked at.

import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// Mapped memory shared with a peer; unmapped when the last reference goes.
///
/// SAFETY: `byteCount` bytes from `base` on are mapped from `init` to `deinit`, and whoever calls holds a reference for
/// the call. `check` traps before memory is touched unless an access lies in them. A peer, or another thread, may write
/// at the same time: what is loaded is then any bytes, and every access takes types of which any bytes are a value. A
/// store to a region that is not writable is a fault of the process, not of its memory.
@safe
public final class SharedRegion: @unchecked Sendable, CustomStringConvertible {
    /// Bytes in a page, of every architecture that Xen's I/O protocols know (`XEN_PAGE_SIZE`).
    public static let pageSize = 4096

    /// `byteCount` rounded up to whole pages.
    public static func wholePages(_ byteCount: Int) -> Int { (byteCount + pageSize - 1) / pageSize * pageSize }

    @usableFromInline let base: UnsafeMutableRawPointer
    /// The region's size in bytes, a whole number of pages.
    public let byteCount: Int
    /// Whether this side may store to it.
    public let isWritable: Bool
    private let release: @Sendable (UnsafeMutableRawPointer, Int) -> Void
    /// By what a fault in it is asked for; -1: a fault is the process's.
    private let watch: Int32
    /// Which file's bytes these are; nil: of no file, or of several.
    public let identity: MemoryIdentity?

    private static let live = Atomic<Int>(0)
    /// How many regions this process has mapped; tests hold it against a baseline.
    public static var liveCount: Int { live.load(ordering: .relaxed) }

    /// Maps `byteCount` bytes of `descriptor` from `offset` on, shared.
    /// - Parameter survivesFaults: whether the file may become shorter: then the whole region is zeroes of this
    ///   process's own from the first access beyond its end on, and `isLost`. Not of huge pages, whose end is the
    ///   process's.
    public init(
        mapping descriptor: Descriptor, offset: Int = 0, byteCount: Int, writable: Bool, survivesFaults: Bool = false
    ) throws(Errno) {
        let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
        // SAFETY: the kernel chooses the place and maps `byteCount` bytes there or fails; they are ours until
        // `release`, which gets the same two numbers. That the file is as long, and stays so, is the caller's part
        // (`SealedMemory`): beyond its end is a SIGBUS.
        guard
            let address = unsafe mmap(nil, byteCount, protection, MAP_SHARED, descriptor.rawValue, off_t(offset)),
            unsafe address != MAP_FAILED
        else { throw Errno.current }
        let watch: Int32
        // SAFETY: what is watched is this mapping, from here until right before it is unmapped.
        if survivesFaults { watch = unsafe causeway_watch_mapping(address, byteCount) } else { watch = -1 }
        if survivesFaults, watch < 0 {
            let reason = Errno.current
            _ = unsafe munmap(address, byteCount)
            throw reason
        }
        self.watch = watch
        identity = MemoryIdentity(descriptor, offset: offset)
        unsafe self.base = address
        self.byteCount = byteCount
        self.isWritable = writable
        unsafe self.release = { address, count in
            if watch >= 0 { causeway_unwatch_mapping(watch) }
            _ = unsafe munmap(address, count)
        }
        Self.live.wrappingAdd(1, ordering: .relaxed)
    }

    /// Private zeroed memory of `byteCount` bytes: the in-process hypervisor's pages, and tests'.
    public init(anonymous byteCount: Int) throws(Errno) {
        // SAFETY: as above, with memory of no file.
        guard
            let address = unsafe mmap(
                nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
            unsafe address != MAP_FAILED
        else { throw Errno.current }
        unsafe self.base = address
        self.byteCount = byteCount
        watch = -1
        identity = nil
        self.isWritable = true
        unsafe self.release = { address, count in _ = unsafe munmap(address, count) }
        Self.live.wrappingAdd(1, ordering: .relaxed)
    }

    /// Pages scattered over descriptors, put side by side: what a multi-page ring needs, whose slots straddle pages.
    /// - Parameter pages: for each page the descriptor and the byte offset in it.
    public init(contiguous pages: [(descriptor: Descriptor, offset: Int)], writable: Bool) throws(Errno) {
        let total = pages.count * Self.pageSize
        // SAFETY: `total` addresses are reserved first; each page is then put over its own part of them and over
        // nothing else. On failure all of them are given back, before anybody has seen the address.
        guard
            let address = unsafe mmap(nil, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
            unsafe address != MAP_FAILED
        else { throw Errno.current }
        let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
        for (index, page) in pages.enumerated() {
            let mapped = unsafe mmap(
                address + index * Self.pageSize, Self.pageSize, protection, MAP_SHARED | MAP_FIXED,
                page.descriptor.rawValue, off_t(page.offset))
            if unsafe mapped == MAP_FAILED {
                let error = Errno.current
                _ = unsafe munmap(address, total)
                throw error
            }
        }
        unsafe self.base = address
        self.byteCount = total
        watch = -1
        identity = nil
        self.isWritable = writable
        unsafe self.release = { address, count in _ = unsafe munmap(address, count) }
        Self.live.wrappingAdd(1, ordering: .relaxed)
    }

    /// Adopts memory that someone else mapped (libxengnttab): `byteCount` bytes from `base` on, a page's start, which
    /// stay mapped until `release` gives them back.
    @unsafe
    public init(
        adopting base: UnsafeMutableRawPointer, byteCount: Int, writable: Bool,
        release: @escaping @Sendable (UnsafeMutableRawPointer, Int) -> Void
    ) {
        // SAFETY: the caller's promise, which the attribute asks for.
        unsafe self.base = base
        self.byteCount = byteCount
        watch = -1
        identity = nil
        self.isWritable = writable
        unsafe self.release = release
        Self.live.wrappingAdd(1, ordering: .relaxed)
    }

    deinit {
        // SAFETY: nobody has a reference any more, and what `unsafeBase` gave out ends before the region.
        unsafe release(base, byteCount)
        Self.live.wrappingSubtract(1, ordering: .relaxed)
    }

    /// The first byte's address, for the device side and for system calls. The region must outlive every use.
    @unsafe @inlinable
    public var unsafeBase: UnsafeMutableRawPointer {
        // SAFETY: only handed out; who uses it keeps the region, as the attribute asks.
        unsafe base
    }

    /// The first byte's address as a number: for what is told to the kernel, and for messages.
    public var address: UInt64 { UInt64(UInt(bitPattern: unsafe base)) }

    /// Whether its file has become shorter and somebody has noticed: it holds nothing of anybody's any more.
    public var isLost: Bool { watch >= 0 && causeway_mapping_is_lost(watch) != 0 }

    /// Number of whole pages.
    public var pageCount: Int { byteCount / Self.pageSize }

    /// `region of 8 pages, read-write`.
    public var description: String { "region of \(pageCount) pages, \(isWritable ? "read-write" : "read-only")" }

    /// Traps unless `count` bytes from `offset` on lie in the region.
    @inlinable @inline(__always)
    func check(_ offset: Int, _ count: Int) {
        precondition(
            // Neither side can wrap: both sizes are positive.
            offset >= 0 && count >= 0 && offset <= byteCount &- count, "access outside a shared region")
    }
}
