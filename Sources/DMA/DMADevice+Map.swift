// Mapping and unmapping transfers.

import FrameMaps

extension DMADevice {
    /// Maps the pieces in order for a device that moves data in `direction`; appends the segments it is to be given. On an error
    /// nothing is mapped and nothing appended. The result must be unmapped once.
    public func map(
        _ pieces: Span<PagePiece>, _ direction: DMADirection, into segments: inout [BusSegment]
    ) throws(DMAError) -> DMAHandle {
        guard let view = unsafe hot.pointee.view else { return mapDirect(pieces, direction, &segments) }
        var work = MappingWork(first: segments.count)
        do throws(DMAError) {
            try place(pieces, direction, view, &work, &segments)
        } catch {
            undo(&work, &segments)
            throw error
        }
        return record(pieces, direction, work)
    }

    /// The direct map: a page's number is its place on the bus.
    @inline(__always)
    private func mapDirect(_ pieces: Span<PagePiece>, _ direction: DMADirection, _ segments: inout [BusSegment])
        -> DMAHandle
    {
        var end: UInt64 = 0
        var byteCount: UInt64 = 0
        for index in pieces.indices {
            let piece = pieces[index]
            let address = piece.pfn.rawValue << frameShift | UInt64(piece.offset)
            // Neighbours on the bus become one segment; address 0 is never mapped.
            if address == end {
                segments[segments.count - 1].byteCount &+= piece.byteCount
            } else {
                segments.append(BusSegment(address: BusAddress(rawValue: address), byteCount: piece.byteCount))
            }
            end = address &+ UInt64(piece.byteCount)
            byteCount &+= UInt64(piece.byteCount)
        }
        return unsafe hot.pointee.ledger.open(.transfer, direction, byteCount: byteCount, pieceCount: pieces.count)
    }

    /// Records a transfer whose segments the caller made with `appendDirect`: to be unmapped once, like any other.
    public func recordDirect(_ direction: DMADirection, byteCount: UInt64) -> DMAHandle {
        unsafe hot.pointee.ledger.open(.transfer, direction, byteCount: byteCount, pieceCount: 0)
    }

    /// Writes down what a mapping has, so that its end can be checked.
    @inline(__always)
    private func record(
        _ pieces: Span<PagePiece>, _ direction: DMADirection, _ work: MappingWork
    ) -> DMAHandle {
        let handle = unsafe hot.pointee.ledger.open(
            .transfer, direction, byteCount: work.byteCount, pieceCount: pieces.count)
        var run = MappingLedger.PageRun()
        var more: Int32 = -1
        for index in pieces.indices {
            let pfn = pieces[index].pfn.rawValue
            if pfn == run.start &+ UInt64(run.count) {
                run.count &+= 1
                continue
            }
            if run.count > 0 { more = unsafe hot.pointee.ledger.addRun(run, before: more) }
            run = MappingLedger.PageRun(start: pfn, count: 1)
        }
        let uses = unsafe hot.pointee.uses
        var overlaps = uses?.begin(run.start, run.count, writes: direction.deviceWrites) ?? false
        var next = more
        while next >= 0 {
            let run = unsafe hot.pointee.ledger.run(next)
            if let uses, uses.begin(run.start, run.count, writes: direction.deviceWrites) { overlaps = true }
            next = run.next
        }
        if overlaps { unsafe hot.pointee.ledger.countOverlap() }
        unsafe hot.pointee.ledger.fill(handle) { record in
            record.iova = work.iova
            record.iovaPages = Int32(truncatingIfNeeded: work.iovaPages)
            record.firstBounce = work.firstBounce
            record.reasons = work.reasons
            record.pages = run
            record.moreRuns = more
        }
        return handle
    }

    /// Ends a mapping: what the device wrote into the pool reaches its pages, and the device reaches nothing any more (in deferred
    /// mode: soon).
    /// - Parameters:
    ///   - handle: what `map` returned; good for this once.
    ///   - direction: the one that it was mapped for.
    ///   - written: how many of the transfer's first bytes the device has written, if fewer than all. No more are copied out of the pool; the
    ///     other pages keep what they had.
    public func unmap(_ handle: DMAHandle, _ direction: DMADirection, written: Int = .max) throws(DMAError) {
        let record = try unsafe hot.pointee.ledger.find(handle, .transfer, direction)
        if let uses = unsafe hot.pointee.uses {
            // A failure here leaves the mapping as it is.
            if record.iovaPages > 0, let iommu = unsafe hot.pointee.iommu {
                try unsafe iommu.pointee.release(record.iova, pages: Int(record.iovaPages))
            }
            if record.firstBounce >= 0 {
                endBounces(record.firstBounce, copyingBack: direction.deviceWrites ? UInt64(max(written, 0)) : 0)
            }
            uses.end(record.pages.start, record.pages.count, writes: direction.deviceWrites)
            if record.moreRuns >= 0 { endRuns(record.moreRuns, uses, direction) }
        }
        unsafe hot.pointee.ledger.close(handle)
    }

    private func endRuns(_ first: Int32, _ uses: PageUses.Counter, _ direction: DMADirection) {
        var next = first
        while next >= 0 {
            let run = unsafe hot.pointee.ledger.run(next)
            uses.end(run.start, run.count, writes: direction.deviceWrites)
            unsafe hot.pointee.ledger.removeRun(next)
            next = run.next
        }
    }

    /// Makes `byteCount` bytes at `offset` of a mapping, as the device has written them, visible in its pages.
    public func syncForCPU(_ handle: DMAHandle, offset: Int, byteCount: Int) throws(DMAError) {
        try sync(handle, .fromDevice, offset, byteCount)
    }

    /// Shows the device what has changed in the pages since.
    public func syncForDevice(_ handle: DMAHandle, offset: Int, byteCount: Int) throws(DMAError) {
        try sync(handle, .toDevice, offset, byteCount)
    }

    private func sync(_ handle: DMAHandle, _ direction: DMADirection, _ offset: Int, _ byteCount: Int) throws(DMAError) {
        let record = try unsafe hot.pointee.ledger.find(handle, .transfer, nil)
        guard record.direction == direction || record.direction == .bidirectional else {
            throw unsafe hot.pointee.ledger.misuse(.wrongDirection)
        }
        let mapped = Int(record.byteCount)
        guard offset >= 0, byteCount >= 0, offset <= mapped, byteCount <= mapped - offset else {
            throw unsafe hot.pointee.ledger.misuse(.outsideMapping(offset: offset, byteCount: byteCount, mapped: mapped))
        }
        var place = record.firstBounce
        while place >= 0 {
            let bounce = unsafe hot.pointee.bounces[place]
            copy(bounce, direction, UInt64(offset)..<UInt64(offset + byteCount))
            place = bounce.next
        }
    }

    /// Which pieces of a live mapping went through the pool, and why; in the transfer's order.
    public func bouncedPieces(of handle: DMAHandle) throws(DMAError) -> [BouncedPiece] {
        let record = try unsafe hot.pointee.ledger.find(handle, .transfer, nil)
        var list: [BouncedPiece] = []
        var place = record.firstBounce
        while place >= 0 {
            let bounce = unsafe hot.pointee.bounces[place]
            list.append(BouncedPiece(offset: bounce.transferOffset, byteCount: bounce.byteCount, reason: bounce.reason))
            place = bounce.next
        }
        return list.reversed()
    }

    /// Why a live mapping bounced; empty if it did not.
    public func bounceReasons(of handle: DMAHandle) throws(DMAError) -> BounceReasons {
        try unsafe hot.pointee.ledger.find(handle, .transfer, nil).reasons
    }
}
