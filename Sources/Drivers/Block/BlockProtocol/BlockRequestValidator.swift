// The gate between what a peer wrote and what a backend does. Pure: a request and the disk's limits in, a closed value
// or a rejection out. For no input does it trap, allocate (direct requests) or loop longer than the segments that were
// allowed.

/// What discards a disk takes.
public enum BlockDiscardSupport: Sendable, Equatable {
    case none
    case plain
    /// Plain ones, and ones after which nothing can be recovered (`discard-secure`).
    case secure
}

/// One disk's limits, as they were announced to one frontend.
public struct BlockRequestValidator: Sendable, Equatable {
    /// The disk's size in 512-byte sectors.
    public private(set) var sectorCount: UInt64
    /// Bytes of the disk's own sector: a power of two, 512 or more.
    public let logicalSectorSize: Int
    @usableFromInline let alignmentMask: UInt64
    /// Whether writes and discards are refused.
    public var isReadOnly = false
    /// The most segments an indirect request may have; 0 if indirect requests were not offered.
    public let maximumIndirectSegments: Int
    /// Which discards were offered.
    public var discard: BlockDiscardSupport
    /// Whether flushes were offered (`feature-flush-cache`).
    public var offersFlush = true
    /// Whether barriers were offered (`feature-barrier`).
    public var offersBarrier = false

    /// The most sectors a disk can have: its bytes fit a signed 64-bit offset.
    @inlinable public static var maximumSectorCount: UInt64 { UInt64(Int64.max) >> 9 }

    /// Limits of a disk of `sectorCount` 512-byte sectors that may be written, takes flushes and no barriers; what is
    /// otherwise is set.
    ///
    /// A logical sector size that is no power of two from 512 up is a programmer's error and traps.
    public init(
        sectorCount: UInt64, logicalSectorSize: Int = 512, maximumIndirectSegments: Int = 0, discard: BlockDiscardSupport = .none
    ) {
        precondition(
            logicalSectorSize >= 512 && logicalSectorSize & (logicalSectorSize - 1) == 0, "not a sector size")
        self.sectorCount = min(sectorCount, Self.maximumSectorCount)
        self.logicalSectorSize = logicalSectorSize
        alignmentMask = UInt64(logicalSectorSize >> 9) - 1
        self.maximumIndirectSegments = max(0, min(maximumIndirectSegments, BlockLimits.maximumIndirectSegments))
        self.discard = discard
    }

    /// The disk has another size now.
    public mutating func resize(to sectors: UInt64) { sectorCount = min(sectors, Self.maximumSectorCount) }

    /// Turns a private copy of a request into what may be done, or a reason why not.
    /// - Parameters:
    ///   - request: is not changed; `inout` because it is used where it stands, for moving it costs more than checking
    ///     it.
    ///   - ranges: emptied, then filled with a transfer's segments; allocates only while it grows. Empty if this
    ///     throws. The disk's
    ///     sectors follow each other through them in order.
    /// - Throws: `BlockRejection`, whose `status` is the answer.
    @inlinable
    public func validate(
        _ request: inout BlockRequest, into ranges: inout [SegmentRange]
    ) throws(BlockRejection) -> ValidatedBlockRequest {
        ranges.removeAll(keepingCapacity: true)
        switch request.operation {
        case .read: return .transfer(try transfer(&request, .read, .none, &ranges))
        case .write: return .transfer(try transfer(&request, .write, .none, &ranges))
        case .indirect: return .indirect(try indirect(request))
        case .flush where offersFlush: return try flush(&request, .flush, &ranges)
        case .barrier where offersBarrier: return try flush(&request, .drainAndFlush, &ranges)
        case .discard where discard != .none: return .discard(try discard(request))
        default: throw .unsupported(request.operation)
        }
    }

    /// Checks the segments of an indirect request that `validate(_:)` accepted.
    /// - Parameters:
    ///   - segments: private copies, as many as `indirect.segmentCount` (else it traps: our own error).
    ///   - ranges: emptied, then filled; allocates only while it grows. Empty if this throws.
    @inlinable
    public func validate(
        _ indirect: IndirectTransfer, segments: [BlockSegment], into ranges: inout [SegmentRange]
    ) throws(BlockRejection) -> BlockTransfer {
        precondition(segments.count == indirect.segmentCount, "not the segments of this request")
        ranges.removeAll(keepingCapacity: true)
        var total: UInt64 = 0
        var lengths: UInt64 = 0
        for index in segments.indices {
            let segment = segments[index]
            guard let length = Self.length(segment) else {
                ranges.removeAll(keepingCapacity: true)
                throw .segment(index: index, first: segment.first, last: segment.last)
            }
            ranges.append(SegmentRange(word: segment.word))
            total &+= length
            lengths |= length
        }
        do throws(BlockRejection) {
            try check(sector: indirect.sector, count: total, lengths: lengths)
        } catch {
            ranges.removeAll(keepingCapacity: true)
            throw error
        }
        return BlockTransfer(
            direction: indirect.direction, ordering: .none, sector: indirect.sector,
            sectorCount: UInt32(truncatingIfNeeded: total))
    }
}
