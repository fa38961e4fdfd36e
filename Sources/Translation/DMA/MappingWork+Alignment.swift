// Alignments of more than a page. Only where a segment begins does a device need one: a piece that goes on where the
// last one ended has it from there. Behind an IOMMU the IO address is what is aligned, and pages of it are skipped.

import FrameMaps

extension DMADevice {
    /// Whether what begins at `address`, which is not aligned, is good all the same: behind an IOMMU, or because it
    /// goes on with the last segment.
    func isAligned(_ address: BusAddress, _ piece: PagePiece, _ first: Int, _ segments: inout [BusSegment]) -> Bool {
        let mask = UInt64(hot.value.limits.minimumAlignment) - 1
        // What lies in front of the page is chosen with the IO address.
        if hot.value.iommu != nil { return UInt64(piece.offset) & mask == 0 }
        guard mask >= frameByteCount, hot.value.segmentLimit > mask, segments.count > first, let last = segments.last else {
            return false
        }
        return last.address.advanced(by: UInt64(last.byteCount)) == address
    }

    /// The most IO pages that the pieces need: each that does not go on where the last one ended begins aligned.
    func ioPages(_ pieces: Span<PagePiece>) -> Int {
        let step = hot.value.alignmentPages
        let joins = hot.value.segmentLimit >= UInt64(hot.value.limits.minimumAlignment)
        var (count, isFull) = (0, false)
        for index in pieces.indices {
            let piece = pieces[index]
            if !(joins && isFull && piece.offset == 0) { count = (count + step - 1) / step * step }
            count += 1
            // A piece that begins elsewhere is bounced, and then ends elsewhere, too.
            isFull = piece.offset == 0 && UInt64(piece.byteCount) == frameByteCount
        }
        return max(count, step)
    }

    /// Chooses the IO page of a piece that was found at `address`: the next one if it goes on with the last segment,
    /// else the next aligned one.
    func align(_ address: BusAddress, _ count: UInt32, _ work: inout MappingWork, _ segments: inout [BusSegment]) {
        let step = hot.value.alignmentPages
        let offset = UInt64(address.offset.rawValue)
        let most = hot.value.segmentLimit
        let isLong = most >= UInt64(hot.value.limits.minimumAlignment)
        let before = segments.count > work.first ? UInt64(segments[segments.count - 1].byteCount) : 0
        let goesOn = work.linkedEnd == frameByteCount && offset == 0 && (isLong || before + UInt64(count) <= most)
        if !goesOn { work.linkedPages = (work.linkedPages + step - 1) / step * step }
        work.linkedEnd = offset + UInt64(count)
    }
}
