// One transfer on its way to being mapped: which pieces bounce and why, where everything is on the bus, and how to undo
// it half-way.

import FrameMaps

/// What has been done of it. Numbers only: nothing here is counted or owned.
struct MappingWork {
    /// Where this transfer's segments start.
    let first: Int
    var byteCount: UInt64 = 0
    var iova = Iova(rawValue: 0)
    var iovaPages = 0
    /// Of these, those that are used up: something is linked at them, or they were skipped for the alignment.
    var linkedPages = 0
    /// Where in its page the last piece that was linked ends.
    var linkedEnd: UInt64 = 0
    var firstBounce: Int32 = -1
    var reasons = BounceReasons()

    init(first: Int) { self.first = first }
}

extension DMADevice {
    @inline(__always)
    func place(
        _ pieces: Span<PagePiece>, _ direction: DMADirection, _ view: BusView, _ work: inout MappingWork,
        _ segments: inout [BusSegment]
    ) throws(DMAError) {
        let iommu = hot.value.iommu
        if let iommu {
            let count = hot.value.alignmentPages == 1 ? max(pieces.count, 1) : ioPages(pieces)
            work.iova = try iommu.value.take(pages: count)
            work.iovaPages = count
        }
        for index in pieces.indices {
            let piece = pieces[index]
            guard piece.isWithinPage else {
                throw hot.value.ledger.misuse(.badPiece(offset: Int(piece.offset), byteCount: Int(piece.byteCount)))
            }
            let word = word(of: piece.pfn, view)
            guard EntryWord.hasFrame(word) else { throw .noSuchPage(piece.pfn) }
            if direction.deviceWrites && !EntryWord.permissions(word).contains(.write) { throw .notWritable(piece.pfn) }
            var address = BusAddress(rawValue: EntryWord.frame(word) << frameShift | UInt64(piece.offset))
            if !hot.value.isFree, let reason = reason(address, piece, work.first, &segments) {
                address = try bouncePiece(piece, reason, &work)
            }
            if let iommu {
                // Linked page by page, side by side: pieces that fill their pages become one run.
                if hot.value.alignmentPages > 1 { align(address, piece.byteCount, &work, &segments) }
                let page = Iova(rawValue: work.iova.rawValue &+ UInt64(work.linkedPages) << frameShift)
                try iommu.value.linkReserved(page, to: address.frame, pages: 1, Self.permissions(direction))
                address = BusAddress(rawValue: page.rawValue | UInt64(address.offset.rawValue))
                work.linkedPages &+= 1
            }
            try append(address, piece.byteCount, work.first, &segments)
            work.byteCount &+= UInt64(piece.byteCount)
        }
        if segments.count &- work.first > hot.value.limits.maximumSegments {
            try gather(pieces, direction, &work, &segments)
        }
    }

    @inline(__always)
    static func permissions(_ direction: DMADirection) -> FramePermissions {
        switch direction {
        case .toDevice: .read
        case .fromDevice: .write
        case .bidirectional: .readWrite
        }
    }

    /// Why the device cannot have the piece where it is, or nil.
    private func reason(
        _ address: BusAddress, _ piece: PagePiece, _ first: Int, _ segments: inout [BusSegment]
    ) -> BounceReason? {
        let limits = hot.value.limits
        let iommu = hot.value.iommu
        if iommu == nil, address.rawValue &+ UInt64(piece.byteCount) &- 1 > limits.mask { return .mask }
        if address.rawValue & UInt64(limits.minimumAlignment - 1) != 0, !isAligned(address, piece, first, &segments) {
            return .alignment
        }
        if limits.refusesForeign { return .foreign }
        if limits.isUntrusted, UInt64(piece.byteCount) < frameByteCount { return iommu == nil ? .untrusted : .subGranule }
        return nil
    }

    /// Sends a piece through the pool; where the device finds it.
    private func bouncePiece(_ piece: PagePiece, _ reason: BounceReason, _ work: inout MappingWork) throws(DMAError)
        -> BusAddress
    {
        guard let pool = hot.value.pool else { throw .needsBounce(reason) }
        // An IOMMU's unit is a page: a bounced piece has one to itself, and keeps its place in it, unless that place is
        // the reason.
        let (mask, wanted) = hot.value.limits.bouncePlace(piece.offset, behindIommu: hot.value.iommu != nil)
        let slot = try pool.value.take(Int(piece.byteCount), keeping: mask, of: wanted)
        if hot.value.limits.isUntrusted { pool.value.clearAround(slot, Int(piece.byteCount)) }
        bounce(piece, slot, slotOffset: 0, ownsSlot: true, reason, &work)
        hot.value.bounceCounts[reason] &+= 1
        return pool.value.address(slot)
    }

    /// Appends a run, joined to the last one or cut where the device's limits say so.
    @inline(__always)
    private func append(_ address: BusAddress, _ count: UInt32, _ first: Int, _ segments: inout [BusSegment]) throws(DMAError) {
        if hot.value.cutsNothing {
            let last = segments.count &- 1
            if last >= first, segments[last].address.rawValue &+ UInt64(segments[last].byteCount) == address.rawValue,
                segments[last].byteCount <= .max - count
            {
                segments[last].byteCount &+= count
            } else {
                segments.append(BusSegment(address: address, byteCount: count))
            }
        } else {
            try cut(address, count, first, &segments)
        }
    }

    /// Throws `needsBounce` where a segment would begin unaligned: in a run that may not be as long as the alignment.
    private func cut(
        _ address: BusAddress, _ count: UInt32, _ first: Int, _ segments: inout [BusSegment]
    ) throws(DMAError) {
        let limits = hot.value.limits
        let most = hot.value.segmentLimit
        var (address, left) = (address.rawValue, UInt64(count))
        while left > 0 {
            // Bytes to the next boundary, less one; with no boundary to the end of the address space.
            let room = limits.boundaryMask - (address & limits.boundaryMask)
            let part: UInt64
            if segments.count > first, let last = segments.last, UInt64(last.byteCount) < most,
                last.address.advanced(by: UInt64(last.byteCount))?.rawValue == address,
                limits.boundaryMask == .max || address & limits.boundaryMask != 0
            {
                part = min(left, most - UInt64(last.byteCount), room &+ 1 == 0 ? .max : room + 1)
                segments[segments.count - 1].byteCount += UInt32(truncatingIfNeeded: part)
            } else {
                if address & UInt64(limits.minimumAlignment - 1) != 0 { throw .needsBounce(.alignment) }
                part = min(left, most, room &+ 1 == 0 ? .max : room + 1)
                segments.append(
                    BusSegment(address: BusAddress(rawValue: address), byteCount: UInt32(truncatingIfNeeded: part)))
            }
            address &+= part
            left -= part
        }
    }

    /// Too many segments: the whole transfer goes through one run of the pool.
    private func gather(
        _ pieces: Span<PagePiece>, _ direction: DMADirection, _ work: inout MappingWork, _ segments: inout [BusSegment]
    ) throws(DMAError) {
        let reason: BounceReason = options.constraints.maximumSegments == 1 ? .straddle : .segments
        let total = Int(work.byteCount)
        undo(&work, &segments)
        guard let pool = hot.value.pool else { throw .needsBounce(reason) }
        let alignment = UInt64(hot.value.limits.minimumAlignment) - 1
        // As it would be without an IOMMU: the slot is one run, which need not begin where its first page does.
        let (mask, wanted) = hot.value.limits.bouncePlace(pieces[0].offset, behindIommu: false)
        let slot = try pool.value.take(
            total, keeping: iommu == nil ? mask : max(hot.value.limits.keptAddressMask, min(alignment, frameByteCount - 1)),
            of: wanted)
        if hot.value.limits.isUntrusted { pool.value.clearAround(slot, total) }
        work.byteCount = 0
        for index in pieces.indices {
            bounce(
                pieces[index], slot, slotOffset: UInt32(truncatingIfNeeded: work.byteCount), ownsSlot: index == 0, reason,
                &work)
            work.byteCount += UInt64(pieces[index].byteCount)
        }
        hot.value.bounceCounts[reason] &+= 1
        var address = pool.value.address(slot)
        if let iommu {
            // The slot is one run of frames, whole pages from its first byte's on: one run of IO pages.
            let pages = (Int(address.offset.rawValue) + total + 4095) >> 12
            let count = max(pages, hot.value.alignmentPages)
            work.iova = try iommu.state.value.take(pages: count)
            work.iovaPages = count
            try iommu.state.value.linkReserved(work.iova, to: address.frame, pages: pages, Self.permissions(direction))
            work.linkedPages = pages
            address = BusAddress(rawValue: work.iova.rawValue | UInt64(address.offset.rawValue))
        }
        try append(address, UInt32(truncatingIfNeeded: total), work.first, &segments)
        if segments.count - work.first > options.constraints.maximumSegments { throw .needsBounce(reason) }
    }

    /// Takes back what was done so far.
    func undo(_ work: inout MappingWork, _ segments: inout [BusSegment]) {
        if segments.count > work.first { segments.removeSubrange(work.first...) }
        if work.firstBounce >= 0 { endBounces(work.firstBounce, copyingBack: 0) }
        // A failure leaves the addresses reserved rather than reachable by others.
        if work.iovaPages > 0 { try? iommu?.state.value.giveBack(work.iova, pages: work.iovaPages) }
        work = MappingWork(first: work.first)
    }
}
