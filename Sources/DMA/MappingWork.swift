// One transfer on its way to being mapped: which pieces bounce and why, where everything is on the bus, and how to undo it
// half-way.

import FrameMaps

/// What has been done of it. Numbers only: nothing here is counted or owned.
struct MappingWork {
    /// Where this transfer's segments start.
    let first: Int
    var byteCount: UInt64 = 0
    var iova = Iova(rawValue: 0)
    var iovaPages = 0
    /// Of these, those that something is linked at.
    var linkedPages = 0
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
        let iommu = unsafe hot.pointee.iommu
        if let iommu = unsafe iommu {
            work.iova = try unsafe iommu.pointee.reserve(pages: max(pieces.count, 1))
            work.iovaPages = max(pieces.count, 1)
        }
        for index in pieces.indices {
            let piece = pieces[index]
            guard piece.byteCount > 0, UInt64(piece.offset) + UInt64(piece.byteCount) <= frameByteCount else {
                throw unsafe hot.pointee.ledger.misuse(.badPiece(offset: Int(piece.offset), byteCount: Int(piece.byteCount)))
            }
            let word = word(of: piece.pfn, view)
            guard EntryWord.hasFrame(word) else { throw .noSuchPage(piece.pfn) }
            if direction.deviceWrites && !EntryWord.permissions(word).contains(.write) { throw .notWritable(piece.pfn) }
            var address = BusAddress(rawValue: EntryWord.frame(word) << frameShift | UInt64(piece.offset))
            if unsafe !hot.pointee.isFree, let reason = reason(address, piece) {
                address = try bouncePiece(piece, reason, &work)
            }
            if let iommu = unsafe iommu {
                // Linked page by page, side by side: pieces that fill their pages become one run.
                let page = Iova(rawValue: work.iova.rawValue &+ UInt64(work.linkedPages) << frameShift)
                try unsafe iommu.pointee.link(page, to: address.frame, pages: 1, Self.permissions(direction))
                address = BusAddress(rawValue: page.rawValue | UInt64(address.offset.rawValue))
                work.linkedPages &+= 1
            }
            append(address, piece.byteCount, work.first, &segments)
            work.byteCount &+= UInt64(piece.byteCount)
        }
        if unsafe segments.count &- work.first > hot.pointee.limits.maximumSegments {
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
    private func reason(_ address: BusAddress, _ piece: PagePiece) -> BounceReason? {
        let limits = unsafe hot.pointee.limits
        let iommu = unsafe hot.pointee.iommu
        if unsafe iommu == nil, address.rawValue &+ UInt64(piece.byteCount) &- 1 > limits.mask { return .mask }
        if address.rawValue & UInt64(limits.minimumAlignment - 1) != 0 { return .alignment }
        if limits.refusesForeign { return .foreign }
        if limits.isUntrusted, UInt64(piece.byteCount) < frameByteCount { return unsafe iommu == nil ? .untrusted : .subGranule }
        return nil
    }

    /// Sends a piece through the pool; where the device finds it.
    private func bouncePiece(_ piece: PagePiece, _ reason: BounceReason, _ work: inout MappingWork) throws(DMAError)
        -> BusAddress
    {
        guard let pool = unsafe hot.pointee.pool else { throw .needsBounce(reason) }
        // An IOMMU's unit is a page: a bounced piece has one to itself, and keeps its place in it, unless that place is the reason.
        let alignment = unsafe UInt64(hot.pointee.limits.minimumAlignment) - 1
        let isBehind = unsafe hot.pointee.iommu != nil
        let keep = isBehind ? max(alignment, frameByteCount - 1) : alignment
        let wanted = isBehind && UInt64(piece.offset) & alignment == 0 ? UInt64(piece.offset) : 0
        let slot = try unsafe pool.pointee.take(Int(piece.byteCount), keeping: keep, of: wanted)
        if unsafe hot.pointee.limits.isUntrusted { unsafe pool.pointee.clearAround(slot, Int(piece.byteCount)) }
        bounce(piece, slot, slotOffset: 0, ownsSlot: true, reason, &work)
        unsafe hot.pointee.bounceCounts[reason] &+= 1
        return unsafe pool.pointee.address(slot)
    }

    /// Appends a run, joined to the last one or cut where the device's limits say so.
    @inline(__always)
    private func append(_ address: BusAddress, _ count: UInt32, _ first: Int, _ segments: inout [BusSegment]) {
        if unsafe hot.pointee.cutsNothing {
            let last = segments.count &- 1
            if last >= first, segments[last].address.rawValue &+ UInt64(segments[last].byteCount) == address.rawValue,
                segments[last].byteCount <= .max - count
            {
                segments[last].byteCount &+= count
            } else {
                segments.append(BusSegment(address: address, byteCount: count))
            }
        } else {
            cut(address, count, first, &segments)
        }
    }

    private func cut(_ address: BusAddress, _ count: UInt32, _ first: Int, _ segments: inout [BusSegment]) {
        let limits = unsafe hot.pointee.limits
        var (address, left) = (address.rawValue, count)
        while left > 0 {
            // Bytes to the next boundary; with no boundary to the end of the address space.
            let room = limits.boundaryMask - (address & limits.boundaryMask)
            let part = UInt32(truncatingIfNeeded: min(UInt64(min(left, limits.maximumSegmentSize)) - 1, room)) + 1
            if segments.count > first, let last = segments.last,
                last.address.advanced(by: UInt64(last.byteCount))?.rawValue == address,
                UInt64(last.byteCount) + UInt64(part) <= UInt64(limits.maximumSegmentSize),
                limits.boundaryMask == .max || address & limits.boundaryMask != 0
            {
                segments[segments.count - 1].byteCount += part
            } else {
                segments.append(BusSegment(address: BusAddress(rawValue: address), byteCount: part))
            }
            address += UInt64(part)
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
        guard let pool = unsafe hot.pointee.pool else { throw .needsBounce(reason) }
        let slot = try unsafe pool.pointee.take(total, keeping: UInt64(hot.pointee.limits.minimumAlignment) - 1)
        if unsafe hot.pointee.limits.isUntrusted { unsafe pool.pointee.clearAround(slot, total) }
        work.byteCount = 0
        for index in pieces.indices {
            bounce(
                pieces[index], slot, slotOffset: UInt32(truncatingIfNeeded: work.byteCount), ownsSlot: index == 0, reason,
                &work)
            work.byteCount += UInt64(pieces[index].byteCount)
        }
        unsafe hot.pointee.bounceCounts[reason] &+= 1
        var address = unsafe pool.pointee.address(slot)
        if let iommu {
            // The slot is one run of frames, whole pages from its first byte's on: one run of IO pages.
            let pages = (Int(address.offset.rawValue) + total + 4095) >> 12
            work.iova = try iommu.reserve(pages: pages)
            work.iovaPages = pages
            try iommu.link(work.iova, to: address.frame, pages: pages, Self.permissions(direction))
            work.linkedPages = pages
            address = BusAddress(rawValue: work.iova.rawValue | UInt64(address.offset.rawValue))
        }
        append(address, UInt32(truncatingIfNeeded: total), work.first, &segments)
        if segments.count - work.first > options.constraints.maximumSegments { throw .needsBounce(reason) }
    }

    /// Takes back what was done so far.
    func undo(_ work: inout MappingWork, _ segments: inout [BusSegment]) {
        segments.removeSubrange(work.first...)
        if work.firstBounce >= 0 { endBounces(work.firstBounce, copyingBack: 0) }
        // A failure leaves the addresses reserved rather than reachable by others.
        if work.iovaPages > 0 { try? iommu?.release(work.iova, pages: work.iovaPages) }
        work = MappingWork(first: work.first)
    }
}
