// Mapping and unmapping transfers.

import FrameMaps

extension DMADevice {
    /// Maps the pieces in order for a device that moves data in `direction`; appends the segments it is to be given. On an error nothing
    /// is mapped and nothing appended.
    public func map(
        _ pieces: Span<PagePiece>, _ direction: DMADirection, into segments: inout [BusSegment]
    ) throws(DMAError) -> DMAHandle {
        if frames == nil { return mapDirect(pieces, direction, &segments) }
        return try mapTranslated(pieces, direction, &segments)
    }

    /// The direct map: a page's number is its place on the bus.
    @inline(__always)
    private func mapDirect(_ pieces: Span<PagePiece>, _ direction: DMADirection, _ segments: inout [BusSegment])
        -> DMAHandle
    {
        var end: UInt64 = 0
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
        }
        return ledger.open(direction)
    }

    private func mapTranslated(
        _ pieces: Span<PagePiece>, _ direction: DMADirection, _ segments: inout [BusSegment]
    ) throws(DMAError) -> DMAHandle {
        var work = MappingWork(device: self, direction: direction, first: segments.count)
        do throws(DMAError) {
            try work.place(pieces, &segments)
        } catch {
            work.undo(&segments)
            throw error
        }
        let handle = ledger.open(direction)
        ledger.fill(handle) { record in
            record.byteCount = work.byteCount
            record.iova = work.iova
            record.iovaPages = Int32(work.iovaPages)
            record.firstBounce = work.firstBounce
        }
        return handle
    }

    /// Ends a mapping: what the device wrote into the pool reaches its pages, and the device reaches nothing any more (in deferred mode: soon).
    public func unmap(_ handle: DMAHandle, _ direction: DMADirection) throws(DMAError) {
        let record = try ledger.find(handle, direction)
        if frames != nil {
            // A failure here leaves the mapping as it is.
            if record.iovaPages > 0 { try iommu?.release(record.iova, pages: Int(record.iovaPages)) }
            if record.firstBounce >= 0 { endBounces(record.firstBounce, copyingBack: direction == .fromDevice) }
        }
        ledger.close(handle)
    }

    /// Makes `byteCount` bytes at `offset` of a mapping, as the device has written them, visible in its pages.
    public func syncForCPU(_ handle: DMAHandle, offset: Int, byteCount: Int) throws(DMAError) {
        try sync(handle, .fromDevice, offset, byteCount)
    }

    /// Shows the device what has changed in the pages since.
    public func syncForDevice(_ handle: DMAHandle, offset: Int, byteCount: Int) throws(DMAError) {
        try sync(handle, .toDevice, offset, byteCount)
    }

    private func sync(_ handle: DMAHandle, _ direction: DMADirection, _ offset: Int, _ byteCount: Int) throws(DMAError)
    {
        let record = try ledger.find(handle, direction)
        guard offset >= 0, byteCount >= 0, frames == nil || offset + byteCount <= Int(record.byteCount) else {
            ledger.countMisuse()
            throw .outsideMapping(offset: offset, byteCount: byteCount, mapped: Int(record.byteCount))
        }
        var place = record.firstBounce
        while place >= 0 {
            copy(bounces[Int(place)], direction, UInt64(offset)..<UInt64(offset + byteCount))
            place = bounces[Int(place)].next
        }
    }

    // MARK: Bounces

    func addBounce(_ bounce: Bounce) -> Int32 {
        if let index = unusedBounces.popLast() {
            bounces[Int(index)] = bounce
            return index
        }
        bounces.append(bounce)
        return Int32(bounces.count - 1)
    }

    /// Gives back a list of bounces.
    func endBounces(_ first: Int32, copyingBack: Bool) {
        var place = first
        while place >= 0 {
            let bounce = bounces[Int(place)]
            if copyingBack { copy(bounce, .fromDevice, 0..<UInt64.max) }
            if bounce.ownsSlot { pool?.giveBack(bounce.slot) }
            unusedBounces.append(place)
            place = bounce.next
        }
    }

    /// Copies the part of a bounced piece that lies in `range` of the transfer.
    func copy(_ bounce: Bounce, _ direction: DMADirection, _ range: Range<UInt64>) {
        let start = max(bounce.transferOffset, range.lowerBound)
        let end = min(bounce.transferOffset + UInt64(bounce.byteCount), range.upperBound)
        guard start < end, let frames, let pool, let frame = frames.map.frame(of: bounce.pfn) else { return }
        let within = Int(start - bounce.transferOffset)
        // The page itself, as this process has it: not by way of the device's IOMMU.
        guard let page = unsafe frames.memory(frame, writes: direction == .fromDevice) else { return }
        let memory = unsafe page + (Int(bounce.offset) + within)
        let offset = Int(bounce.slotOffset) + within
        if direction == .fromDevice {
            unsafe pool.copyOut(bounce.slot, offset, to: memory, Int(end - start))
        } else {
            unsafe pool.copyIn(bounce.slot, offset, from: memory, Int(end - start))
        }
    }
}
