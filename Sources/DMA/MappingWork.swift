// One transfer on its way to being mapped: which pieces bounce and why, where everything is on the bus, and how to undo it half-way.

import FrameMaps

struct MappingWork {
    let device: DMADevice
    let direction: DMADirection
    /// Where this transfer's segments start.
    let first: Int
    var byteCount: UInt64 = 0
    var iova = Iova(rawValue: 0)
    var iovaPages = 0
    var firstBounce: Int32 = -1

    private var constraints: DMAConstraints { device.options.constraints }

    init(device: DMADevice, direction: DMADirection, first: Int) {
        self.device = device
        self.direction = direction
        self.first = first
    }

    mutating func place(_ pieces: Span<PagePiece>, _ segments: inout [BusSegment]) throws(DMAError) {
        try check(pieces)
        if let iommu = device.iommu {
            iova = try iommu.reserve(pages: max(pieces.count, 1))
            iovaPages = max(pieces.count, 1)
        }
        var linked = 0
        for index in pieces.indices {
            let piece = pieces[index]
            var address = try locate(piece)
            if let iommu = device.iommu {
                // Linked page by page, side by side: pieces that fill their pages become one run.
                let page = Iova(rawValue: iova.rawValue + UInt64(linked) << frameShift)
                let permissions: FramePermissions = direction == .fromDevice ? .write : .read
                try iommu.link(page, to: address.frame, pages: 1, permissions)
                address = BusAddress(rawValue: page.rawValue | UInt64(address.offset.rawValue))
                linked += 1
            }
            append(address, piece.byteCount, &segments)
            byteCount += UInt64(piece.byteCount)
        }
        if segments.count - first > constraints.maximumSegments { try gather(pieces, &segments) }
    }

    /// Every piece is part of a page that is there and that the device may use as it will.
    private func check(_ pieces: Span<PagePiece>) throws(DMAError) {
        guard let map = device.frames?.map else { return }
        for index in pieces.indices {
            let piece = pieces[index]
            guard piece.byteCount > 0, UInt64(piece.offset) + UInt64(piece.byteCount) <= frameByteCount else {
                throw .badPiece(offset: Int(piece.offset), byteCount: Int(piece.byteCount))
            }
            guard let answer = map.translate(piece.pfn) else { throw .noSuchPage(piece.pfn) }
            if direction == .fromDevice && !answer.permissions.contains(.write) { throw .notWritable(piece.pfn) }
        }
    }

    /// The piece's frame on the bus, or that of the slot it is bounced to.
    private mutating func locate(_ piece: PagePiece) throws(DMAError) -> BusAddress {
        guard let frame = device.frames?.map.frame(of: piece.pfn) else { throw .noSuchPage(piece.pfn) }
        let address = BusAddress(rawValue: frame.rawValue << frameShift | UInt64(piece.offset))
        guard let reason = reason(address, piece) else { return address }
        guard let pool = device.pool else { throw .needsBounce(reason) }
        // An IOMMU's unit is a page: a bounced piece has one to itself, and keeps its place in it.
        let keep: UInt64 = device.iommu == nil ? 0 : frameByteCount - 1
        let slot = try pool.take(Int(piece.byteCount), keeping: keep, of: UInt64(piece.offset) & keep)
        if constraints.isUntrusted { pool.clearAround(slot, Int(piece.byteCount)) }
        bounce(piece, slot, slotOffset: 0, ownsSlot: true)
        device.bounceCounts[reason] &+= 1
        return pool.address(slot)
    }

    private func reason(_ address: BusAddress, _ piece: PagePiece) -> BounceReason? {
        if device.iommu == nil, address.rawValue + UInt64(piece.byteCount) - 1 > constraints.mask { return .mask }
        if address.rawValue & UInt64(constraints.minimumAlignment - 1) != 0 { return .alignment }
        if constraints.isUntrusted, UInt64(piece.byteCount) < frameByteCount { return .untrusted }
        return nil
    }

    /// Fills the slot, whichever way the device moves data, and remembers the piece.
    private mutating func bounce(_ piece: PagePiece, _ slot: BounceSlot, slotOffset: UInt32, ownsSlot: Bool) {
        let bounce = DMADevice.Bounce(
            slot: slot, pfn: piece.pfn, offset: piece.offset, byteCount: piece.byteCount, slotOffset: slotOffset,
            transferOffset: byteCount, ownsSlot: ownsSlot, next: firstBounce)
        device.copy(bounce, .toDevice, 0..<UInt64.max)
        firstBounce = device.addBounce(bounce)
    }

    /// Appends a run, joined to the last one or cut where the device's limits say so.
    private func append(_ address: BusAddress, _ count: UInt32, _ segments: inout [BusSegment]) {
        var (address, left) = (address.rawValue, count)
        while left > 0 {
            // Bytes to the next boundary; with no boundary to the end of the address space.
            let room = constraints.boundaryMask - (address & constraints.boundaryMask)
            let part = UInt32(truncatingIfNeeded: min(UInt64(min(left, constraints.maximumSegmentSize)) - 1, room)) + 1
            if segments.count > first, let last = segments.last,
                last.address.advanced(by: UInt64(last.byteCount))?.rawValue == address,
                UInt64(last.byteCount) + UInt64(part) <= UInt64(constraints.maximumSegmentSize),
                constraints.boundaryMask == .max || address & constraints.boundaryMask != 0
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
    private mutating func gather(_ pieces: Span<PagePiece>, _ segments: inout [BusSegment]) throws(DMAError) {
        undo(&segments)
        guard let pool = device.pool, device.iommu == nil else { throw .needsBounce(.segments) }
        let slot = try pool.take(Int(byteCount))
        byteCount = 0
        for index in pieces.indices {
            bounce(pieces[index], slot, slotOffset: UInt32(truncatingIfNeeded: byteCount), ownsSlot: index == 0)
            byteCount += UInt64(pieces[index].byteCount)
        }
        device.bounceCounts[.segments] &+= 1
        append(pool.address(slot), UInt32(truncatingIfNeeded: byteCount), &segments)
        if segments.count - first > constraints.maximumSegments { throw .needsBounce(.segments) }
    }

    /// Takes back what was done so far.
    mutating func undo(_ segments: inout [BusSegment]) {
        segments.removeSubrange(first...)
        if firstBounce >= 0 { device.endBounces(firstBounce, copyingBack: false) }
        firstBounce = -1
        // What was linked before is unlinked with the whole reservation; a failure leaves it reserved rather than reachable by others.
        if iovaPages > 0 { try? device.iommu?.release(iova, pages: iovaPages) }
        iovaPages = 0
    }
}
