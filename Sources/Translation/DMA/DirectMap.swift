// The direct map's arithmetic, where a call for each piece would cost more than all else: a page's number is its place
// on the bus, nothing is limited, and what is left to do is to see that the page is there and to write down that the
// device has it.

import FrameMaps
import SharedMemory

extension DMADevice {
    /// Maps the pieces in order for a device that moves data in `direction`; appends the segments it is to be given. On
    /// an error nothing is mapped and nothing appended: `noSuchPage`, `notWritable`, `badPiece`, and what limits, pool
    /// and IOMMU may add. The result must be unmapped once.
    @inlinable
    @inline(__always)
    public func map(
        _ pieces: Span<PagePiece>, _ direction: DMADirection, into segments: inout [BusSegment]
    ) throws(DMAError) -> DMAHandle {
        guard isDirect else { return try mapTranslated(pieces, direction, &segments) }
        return recordDirect(direction, byteCount: try layOut(pieces, direction, into: &segments))
    }

    /// The direct map's segments of these pieces, and their bytes; on an error nothing is appended.
    @inlinable
    @inline(__always)
    func layOut(
        _ pieces: Span<PagePiece>, _ direction: DMADirection, into segments: inout [BusSegment]
    ) throws(DMAError) -> UInt64 {
        let first = segments.count
        var run = DirectRun()
        for index in pieces.indices {
            let piece = pieces[index]
            guard bus.holds(piece, direction) || bus.holdsPlaced(piece, direction) else { throw refusal(piece, first, &segments) }
            run.append(piece, to: &segments)
        }
        run.finish(&segments)
        return run.byteCount
    }

    /// As `map`, for a driver that has its pieces in no list.
    /// - Parameters:
    ///   - count: how often `piece` is asked, from 0 on; a negative one is `badCount`.
    ///   - piece: the transfer's next piece; nil: there is none in this place.
    @inlinable
    @inline(__always)
    public func map(
        count: Int, _ direction: DMADirection, into segments: inout [BusSegment], _ piece: (Int) -> PagePiece?
    ) throws(DMAError) -> DMAHandle {
        if count < 0 { throw .badCount(count) }
        guard isDirect else {
            pieces.value.removeAll(keepingCapacity: true)
            for index in 0..<count { if let piece = piece(index) { pieces.value.append(piece) } }
            return try mapListed(&pieces.value, direction, &segments)
        }
        let first = segments.count
        var run = DirectRun()
        for index in 0..<count {
            guard let piece = piece(index) else { continue }
            guard bus.holds(piece, direction) || bus.holdsPlaced(piece, direction) else { throw refusal(piece, first, &segments) }
            run.append(piece, to: &segments)
        }
        run.finish(&segments)
        return recordDirect(direction, byteCount: run.byteCount)
    }

    /// Records a transfer whose segments were made by the direct map's arithmetic: to be unmapped once, like any other.
    @usableFromInline
    func recordDirect(_ direction: DMADirection, byteCount: UInt64) -> DMAHandle {
        hot.value.ledger.openDirect(direction, byteCount: byteCount)
    }

    /// Why the direct map does not take a piece; takes the segments of those before it back.
    @usableFromInline @inline(never)
    func refusal(_ piece: PagePiece, _ first: Int, _ segments: inout [BusSegment]) -> DMAError {
        segments.removeSubrange(first...)
        guard piece.isWithinPage else {
            return hot.value.ledger.misuse(.badPiece(offset: Int(piece.offset), byteCount: Int(piece.byteCount)))
        }
        return bus.holds(piece, .toDevice) || bus.holdsPlaced(piece, .toDevice) ? .notWritable(piece.pfn) : .noSuchPage(piece.pfn)
    }

    /// - Parameter list: lent, not copied: a reference count would cost more than a piece.
    @usableFromInline
    func mapListed(
        _ list: inout [PagePiece], _ direction: DMADirection, _ segments: inout [BusSegment]
    ) throws(DMAError) -> DMAHandle { try mapTranslated(list.span, direction, &segments) }
}

/// One transfer in the direct map, as far as it is laid out. Neighbours on the bus become one segment, which is
/// appended when its end is known.
@usableFromInline
struct DirectRun {
    /// Of the last segment; address 0 is never mapped.
    @usableFromInline var start: UInt64 = 0
    @usableFromInline var end: UInt64 = 0
    /// Of the whole transfer.
    @usableFromInline var byteCount: UInt64 = 0

    @inlinable init() {}

    @inlinable
    @inline(__always)
    mutating func append(_ piece: PagePiece, to segments: inout [BusSegment]) {
        let address = piece.pfn.rawValue << frameShift | UInt64(piece.offset)
        if address != end {
            finish(&segments)
            start = address
        }
        end = address &+ UInt64(piece.byteCount)
        byteCount &+= UInt64(piece.byteCount)
    }

    /// Appends the last segment.
    @inlinable
    @inline(__always)
    func finish(_ segments: inout [BusSegment]) {
        if end == start { return }
        segments.append(BusSegment(address: BusAddress(rawValue: start), byteCount: UInt32(truncatingIfNeeded: end &- start)))
    }
}
