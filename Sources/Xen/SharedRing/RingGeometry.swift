// The shape of a ring in memory: a header of 64 bytes, then a power of two of slots (xen/io/ring.h, DEFINE_RING_TYPES).

import SharedMemory

/// Byte offsets in the header that both sides share.
public enum RingHeader {
    /// Requests published (`req_prod`): the frontend's.
    @inlinable public static var requestProduced: Int { 0 }
    /// Wake the backend when requests reach here (`req_event`): the backend's.
    @inlinable public static var requestEvent: Int { 4 }
    /// Responses published (`rsp_prod`): the backend's.
    @inlinable public static var responseProduced: Int { 8 }
    /// Wake the frontend when responses reach here (`rsp_event`): the frontend's.
    @inlinable public static var responseEvent: Int { 12 }
    /// Bytes before the first slot.
    @inlinable public static var size: Int { 64 }
}

/// How many slots a ring has and where each lies.
public struct RingGeometry: Equatable, Sendable, BitwiseCopyable {
    /// Number of slots: a power of two.
    public let slotCount: UInt32
    /// Bytes of a slot.
    public let slotSize: Int

    /// The most pages a ring may have: order 5.
    @inlinable public static var maximumPages: Int { 32 }

    /// As many slots as a power of two allows in `byteCount` bytes after the header (`__RING_SIZE`).
    ///
    /// The caller chose both numbers: a slot that does not fit, or more than 32 pages, is a programmer's error and
    /// traps.
    @inlinable
    public init(byteCount: Int, slotSize: Int) {
        precondition(byteCount <= Self.maximumPages * SharedRegion.pageSize, "a ring has at most 32 pages")
        precondition(slotSize > 0 && byteCount >= RingHeader.size + slotSize, "no slot fits")
        let fitting = UInt32((byteCount - RingHeader.size) / slotSize)
        slotCount = 1 << (31 - UInt32(fitting.leadingZeroBitCount))
        self.slotSize = slotSize
    }

    /// Where the slot of `index` begins, in bytes from the region's start.
    @inlinable @inline(__always)
    public func offset(_ index: RingIndex) -> Int {
        RingHeader.size &+ Int(index.rawValue & (slotCount &- 1)) &* slotSize
    }
}
