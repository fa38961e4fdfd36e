// Mapping and unmapping transfers.

import FrameMaps

extension DMADevice {
    /// Maps the pieces by way of the frame map, the device's limits and its IOMMU.
    @usableFromInline
    func mapTranslated(
        _ pieces: Span<PagePiece>, _ direction: DMADirection, _ segments: inout [BusSegment]
    ) throws(DMAError) -> DMAHandle {
        guard let view = hot.value.view else { preconditionFailure("the direct map needs no frame map") }
        var work = MappingWork(first: segments.count)
        do throws(DMAError) {
            try place(pieces, direction, view, &work, &segments)
        } catch {
            undo(&work, &segments)
            throw error
        }
        return record(pieces, direction, work)
    }

    /// Writes down what a mapping has, so that its end can be checked.
    @inline(__always)
    private func record(
        _ pieces: Span<PagePiece>, _ direction: DMADirection, _ work: MappingWork
    ) -> DMAHandle {
        let handle = hot.value.ledger.open(.transfer, direction, byteCount: work.byteCount)
        var run = MappingLedger.PageRun()
        var more: Int32 = -1
        for index in pieces.indices {
            let pfn = pieces[index].pfn.rawValue
            if pfn == run.start &+ UInt64(run.count) {
                run.count &+= 1
                continue
            }
            if run.count > 0 { more = hot.value.ledger.addRun(run, before: more) }
            run = MappingLedger.PageRun(start: pfn, count: 1)
        }
        let uses = hot.value.uses
        var overlaps = uses?.begin(run.start, run.count, writes: direction.deviceWrites) ?? false
        var next = more
        while next >= 0 {
            let run = hot.value.ledger.run(next)
            if let uses, uses.begin(run.start, run.count, writes: direction.deviceWrites) { overlaps = true }
            next = run.next
        }
        if overlaps { hot.value.ledger.countOverlap() }
        hot.value.ledger.fill(handle) { record in
            record.iova = work.iova
            record.iovaPages = Int32(truncatingIfNeeded: work.iovaPages)
            record.firstBounce = work.firstBounce
            record.reasons = work.reasons
            record.pages = run
            record.moreRuns = more
        }
        return handle
    }

    /// Ends a mapping: what the device wrote into the pool reaches its pages, and the device reaches nothing any more
    /// (in deferred mode: soon).
    /// - Parameters:
    ///   - handle: what `map` returned; good for this once.
    ///   - direction: the one that it was mapped for.
    ///   - written: how many of the transfer's first bytes the device has written, if fewer than all. No more are
    ///     copied out of the pool; the
    ///     other pages keep what they had.
    public func unmap(_ handle: DMAHandle, _ direction: DMADirection, written: Int = .max) throws(DMAError) {
        guard let uses = hot.value.uses else { return try hot.value.ledger.closeDirect(handle, direction) }
        try endTranslated(handle, direction, written, uses)
    }

    private func endTranslated(
        _ handle: DMAHandle, _ direction: DMADirection, _ written: Int, _ uses: PageUses.Counter
    ) throws(DMAError) {
        let record = try hot.value.ledger.find(handle, .transfer, direction)
        // A failure here leaves the mapping as it is.
        if record.iovaPages > 0, let iommu = hot.value.iommu { try iommu.value.giveBack(record.iova, pages: Int(record.iovaPages)) }
        if record.firstBounce >= 0 {
            endBounces(record.firstBounce, copyingBack: direction.deviceWrites ? UInt64(max(written, 0)) : 0)
        }
        uses.end(record.pages.start, record.pages.count, writes: direction.deviceWrites)
        if record.moreRuns >= 0 { endRuns(record.moreRuns, uses, direction) }
        hot.value.ledger.close(handle)
    }

    private func endRuns(_ first: Int32, _ uses: PageUses.Counter, _ direction: DMADirection) {
        var next = first
        while next >= 0 {
            let run = hot.value.ledger.run(next)
            uses.end(run.start, run.count, writes: direction.deviceWrites)
            hot.value.ledger.removeRun(next)
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
        let record = try hot.value.ledger.find(handle, .transfer, nil)
        guard record.direction == direction || record.direction == .bidirectional else {
            throw hot.value.ledger.misuse(.wrongDirection)
        }
        let mapped = Int(record.byteCount)
        guard offset >= 0, byteCount >= 0, offset <= mapped, byteCount <= mapped - offset else {
            throw hot.value.ledger.misuse(.outsideMapping(offset: offset, byteCount: byteCount, mapped: mapped))
        }
        var place = record.firstBounce
        while place >= 0 {
            let bounce = hot.value.bounces[place]
            copy(bounce, direction, UInt64(offset)..<UInt64(offset + byteCount))
            place = bounce.next
        }
    }

    /// Which pieces of a live mapping went through the pool, and why; in the transfer's order.
    public func bouncedPieces(of handle: DMAHandle) throws(DMAError) -> [BouncedPiece] {
        let record = try hot.value.ledger.find(handle, .transfer, nil)
        var list: [BouncedPiece] = []
        var place = record.firstBounce
        while place >= 0 {
            let bounce = hot.value.bounces[place]
            list.append(BouncedPiece(offset: bounce.transferOffset, byteCount: bounce.byteCount, reason: bounce.reason))
            place = bounce.next
        }
        return list.reversed()
    }

    /// Why a live mapping bounced; empty if it did not.
    public func bounceReasons(of handle: DMAHandle) throws(DMAError) -> BounceReasons {
        try hot.value.ledger.find(handle, .transfer, nil).reasons
    }
}
