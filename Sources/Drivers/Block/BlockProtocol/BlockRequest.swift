// A block request and its response, as private values. What is in a request is what the peer wrote: nothing has been
// checked.

import XenTypes

/// A private copy of a request, unvalidated; in every ABI the same value. 112 bytes, no allocation.
public struct BlockRequest: Sendable, BitwiseCopyable, CustomStringConvertible {
    // Whole words only: copies of small fields at odd places stall on the stores before them, which costs more than the
    // ring.
    @usableFromInline var head: UInt64
    /// The frontend's own number for it; any, repeated ones too.
    public var id: UInt64
    /// The disk's first 512-byte sector.
    public var sector: UInt64
    /// Segments as words; or 8 indirect references, two a word; or a discard's number of sectors.
    @usableFromInline var payload: InlineArray<11, UInt64>

    @inlinable @inline(__always)
    init(
        operation: BlockOperationCode, detail: UInt8 = 0, segmentCount: UInt16 = 0, handle: UInt16, id: UInt64, sector: UInt64
    ) {
        head =
            UInt64(operation.rawValue) | UInt64(detail) << 8 | UInt64(segmentCount) << 16 | UInt64(handle) << 32
        self.id = id
        self.sector = sector
        self.payload = InlineArray(repeating: 0)
    }

    /// What it asks for: any byte.
    @inlinable public var operation: BlockOperationCode {
        get { BlockOperationCode(rawValue: UInt8(truncatingIfNeeded: head)) }
        set { head = head & ~0xFF | UInt64(newValue.rawValue) }
    }
    /// The second byte: an indirect request's inner operation, a discard's flag, else 0.
    @inlinable public var detail: UInt8 {
        get { UInt8(truncatingIfNeeded: head >> 8) }
        set { head = head & ~0xFF00 | UInt64(newValue) << 8 }
    }
    /// How many segments it says it has; up to 255 in a direct request though 11 fit, up to 65535 in an indirect one.
    @inlinable public var segmentCount: UInt16 {
        get { UInt16(truncatingIfNeeded: head >> 16) }
        set { head = head & ~0xFFFF_0000 | UInt64(newValue) << 16 }
    }
    /// The disk it means (`handle`), which backends ignore: the ring belongs to one disk.
    @inlinable public var handle: UInt16 {
        get { UInt16(truncatingIfNeeded: head >> 32) }
        set { head = head & ~0xFFFF_0000_0000 | UInt64(newValue) << 32 }
    }

    /// Nothing yet: a place to copy requests into.
    @inlinable public init() { self.init(operation: .read, handle: 0, id: 0, sector: 0) }

    /// A read, write, barrier or flush without segments yet; `append(_:)` adds them.
    @inlinable
    public init(_ operation: BlockOperationCode, id: UInt64, sector: UInt64 = 0, handle: UInt16 = 0) {
        self.init(operation: operation, handle: handle, id: id, sector: sector)
    }

    /// A discard of `sectorCount` 512-byte sectors.
    @inlinable
    public init(discarding sectorCount: UInt64, at sector: UInt64, secure: Bool = false, id: UInt64, handle: UInt16 = 0) {
        self.init(
            operation: .discard, detail: secure ? BlockLimits.secureDiscardFlag : 0, handle: handle, id: id, sector: sector)
        payload[0] = sectorCount
    }

    /// A read or write whose segments are in other pages: set them with `setIndirectReference(_:to:)`.
    @inlinable
    public init(
        indirect operation: BlockOperationCode, segmentCount: UInt16, sector: UInt64, id: UInt64, handle: UInt16 = 0
    ) {
        self.init(
            operation: .indirect, detail: operation.rawValue, segmentCount: segmentCount, handle: handle, id: id, sector: sector)
    }

    /// Adds a segment; false if 11 are there.
    @inlinable @inline(__always)
    @discardableResult
    public mutating func append(_ segment: BlockSegment) -> Bool {
        guard segmentCount < 11 else { return false }
        payload[Int(segmentCount)] = segment.word
        segmentCount += 1
        return true
    }

    /// Segment `index` of 0 to 10; one past `segmentCount` means nothing.
    @inlinable @inline(__always)
    public func segment(_ index: Int) -> BlockSegment { BlockSegment(word: payload[index]) }

    /// The segments that are here: at most 11 of them.
    public var segments: [BlockSegment] {
        (0..<min(Int(segmentCount), BlockLimits.maximumDirectSegments)).map(segment)
    }

    /// An indirect request's page `index` of 0 to 7.
    @inlinable
    public func indirectReference(_ index: Int) -> GrantReference {
        GrantReference(UInt32(truncatingIfNeeded: payload[index >> 1] >> (UInt64(index & 1) << 5)))
    }

    /// Sets an indirect request's page `index` of 0 to 7.
    @inlinable
    public mutating func setIndirectReference(_ index: Int, to reference: GrantReference) {
        let shift = UInt64(index & 1) << 5
        payload[index >> 1] =
            payload[index >> 1] & ~(0xFFFF_FFFF << shift) | UInt64(reference.rawValue) << shift
    }

    /// What an indirect request does with its segments: read or write, if honest.
    @inlinable public var innerOperation: BlockOperationCode { BlockOperationCode(rawValue: detail) }
    /// A discard's number of 512-byte sectors.
    @inlinable public var discardSectorCount: UInt64 { payload[0] }
    /// Whether a discard asks that the data be unrecoverable.
    @inlinable public var wantsSecureDiscard: Bool { detail & BlockLimits.secureDiscardFlag != 0 }

    /// The operation that its response carries: an indirect request's is the inner one.
    @inlinable public var responseOperation: BlockOperationCode { operation == .indirect ? innerOperation : operation }

    /// `read id 7 sector 2048, 3 segments`.
    public var description: String {
        switch operation {
        case .discard: "discard id \(id) sector \(sector), \(discardSectorCount) sectors\(wantsSecureDiscard ? ", secure" : "")"
        case .indirect: "indirect \(innerOperation) id \(id) sector \(sector), \(segmentCount) segments"
        default: "\(operation) id \(id) sector \(sector), \(segmentCount) segments"
        }
    }
}

/// The answer to a request (`struct blkif_response`).
public struct BlockResponse: Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The request's own number.
    public var id: UInt64
    /// The request's operation; an indirect request's inner one.
    public var operation: BlockOperationCode
    /// How it ended.
    public var status: BlockStatus

    /// An answer.
    @inlinable
    public init(id: UInt64, operation: BlockOperationCode, status: BlockStatus) {
        self.id = id
        self.operation = operation
        self.status = status
    }

    /// The answer to `request`.
    @inlinable
    public init(to request: BlockRequest, status: BlockStatus) {
        self.init(id: request.id, operation: request.responseOperation, status: status)
    }

    /// `read id 7: okay`.
    public var description: String { "\(operation) id \(id): \(status)" }
}
