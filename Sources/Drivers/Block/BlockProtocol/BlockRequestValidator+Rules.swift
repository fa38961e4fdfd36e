// The rules, one function for each kind of request. Sums stay far below their types' ends: at most 4096 segments of 8
// sectors.

extension BlockRequestValidator {
    /// A segment's sectors; nil unless first ≤ last ≤ 7 (attacks.md A8: the missing upper bound reached past the page).
    @inlinable @inline(__always)
    static func length(_ segment: BlockSegment) -> UInt64? {
        guard segment.first <= segment.last, segment.last < 8 else { return nil }
        return UInt64(segment.last &- segment.first) &+ 1
    }

    /// Holds a run against the disk. `lengths` has a bit for each bit in any segment's length.
    @inlinable @inline(__always)
    func check(sector: UInt64, count: UInt64, lengths: UInt64) throws(BlockRejection) {
        // Subtraction, so that no sum can wrap.
        guard count <= sectorCount, sector <= sectorCount &- count else {
            throw .outOfRange(sector: sector, count: count, sectors: sectorCount)
        }
        // Each length, not just their sum: a device sector that two pages share cannot be transferred.
        guard (sector | lengths) & alignmentMask == 0 else {
            throw .misaligned(sector: sector, logicalSectorSize: logicalSectorSize)
        }
    }

    /// Data in the request's own segments.
    @inlinable @inline(__always)
    func transfer(
        _ request: inout BlockRequest, _ direction: BlockDirection, _ ordering: BlockOrdering, _ ranges: inout [SegmentRange]
    ) throws(BlockRejection) -> BlockTransfer {
        let count = Int(request.segmentCount)
        guard count > 0, count <= BlockLimits.maximumDirectSegments else {
            throw .segmentCount(count, allowed: BlockLimits.maximumDirectSegments)
        }
        if direction == .write, isReadOnly { throw .readOnly }
        var total: UInt64 = 0
        var lengths: UInt64 = 0
        for index in 0..<count {
            let word = request.payload[index]
            let segment = BlockSegment(word: word)
            guard let length = Self.length(segment) else {
                throw .segment(index: index, first: segment.first, last: segment.last)
            }
            total &+= length
            lengths |= length
        }
        try check(sector: request.sector, count: total, lengths: lengths)
        // Only now: a rejection leaves no ranges.
        for index in 0..<count { ranges.append(SegmentRange(word: request.payload[index])) }
        return BlockTransfer(
            direction: direction, ordering: ordering, sector: request.sector, sectorCount: UInt32(truncatingIfNeeded: total))
    }

    /// A flush or barrier: without segments only that; with segments, a write after it.
    @inlinable
    func flush(
        _ request: inout BlockRequest, _ ordering: BlockOrdering, _ ranges: inout [SegmentRange]
    ) throws(BlockRejection) -> ValidatedBlockRequest {
        // Without segments the sector means nothing, and frontends leave it as it was.
        if request.segmentCount == 0 { return .flush(ordering) }
        return .transfer(try transfer(&request, .write, ordering, &ranges))
    }

    /// An indirect request, up to its segments.
    @inlinable
    func indirect(_ request: BlockRequest) throws(BlockRejection) -> IndirectTransfer {
        guard maximumIndirectSegments > 0 else { throw .unsupported(.indirect) }
        let direction: BlockDirection
        switch request.innerOperation {
        case .read: direction = .read
        case .write: direction = .write
        default: throw .innerOperation(request.innerOperation)
        }
        let count = Int(request.segmentCount)
        guard count > 0, count <= maximumIndirectSegments else {
            throw .segmentCount(count, allowed: maximumIndirectSegments)
        }
        if direction == .write, isReadOnly { throw .readOnly }
        return IndirectTransfer(direction: direction, sector: request.sector, segmentCount: count, request: request)
    }

    /// A discard. A request for a secure one is ignored if that was not offered, as xen/io/blkif.h has it.
    @inlinable
    func discard(_ request: BlockRequest) throws(BlockRejection) -> BlockDiscard {
        if isReadOnly { throw .readOnly }
        let count = request.discardSectorCount
        try check(sector: request.sector, count: count, lengths: count)
        return BlockDiscard(
            sector: request.sector, sectorCount: count, isSecure: request.wantsSecureDiscard && discard == .secure)
    }
}
