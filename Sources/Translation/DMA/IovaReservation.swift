// Reserve, link, commit: address space is taken once, pieces are linked into it as they come, and one commit makes them
// the device's. For transfers that are put together over time, and for callers that must know that there is address
// space before they begin (`dma_iova_*` in Linux).

import FrameMaps

/// IO address space in which nothing has to be looked for any more. End it with `destroy`; one that is dropped stays
/// reserved and is counted, as a mapping is.
public struct IovaReservation: ~Copyable {
    /// The first byte of it.
    public let start: Iova
    /// Bytes that can be linked.
    public let byteCount: Int
    /// Bytes that are linked: pieces are linked one after the other.
    public private(set) var linked = 0
    /// Of these, those that the device may use.
    public private(set) var committed = 0
    private let direction: DMADirection
    private let device: DMADevice
    private let iommu: IommuDomain
    private let handle: DMAHandle
    private var isEnded = false

    fileprivate init(
        _ device: DMADevice, _ iommu: IommuDomain, _ handle: DMAHandle, _ start: Iova, byteCount: Int, _ direction: DMADirection
    ) {
        self.device = device
        self.iommu = iommu
        self.handle = handle
        self.start = start
        self.byteCount = byteCount
        self.direction = direction
    }

    /// Links the next piece, which must begin and, unless it is the last one, end with its page: only then is the whole
    /// one run. Nothing is linked on an error.
    public mutating func link(_ piece: PagePiece) throws(DMAError) {
        guard linked & 4095 == 0, piece.offset == 0, piece.byteCount > 0, piece.byteCount <= 4096 else {
            throw device.hot.value.ledger.misuse(.badPiece(offset: Int(piece.offset), byteCount: Int(piece.byteCount)))
        }
        guard Int(piece.byteCount) <= byteCount - linked else {
            throw device.hot.value.ledger.misuse(
                .outsideMapping(offset: linked, byteCount: Int(piece.byteCount), mapped: byteCount))
        }
        guard let answer = device.frames?.map.translate(piece.pfn) else { throw .noSuchPage(piece.pfn) }
        if direction.deviceWrites && !answer.permissions.contains(.write) { throw .notWritable(piece.pfn) }
        // An IOMMU shows whole pages: what an untrusted device is not to see must not be in one.
        if device.options.constraints.isUntrusted, piece.byteCount < 4096 { throw .needsBounce(.subGranule) }
        let place = Iova(rawValue: start.rawValue + UInt64(linked))
        try iommu.state.value.linkReserved(place, to: answer.frame, pages: 1, DMADevice.permissions(direction))
        linked += Int(piece.byteCount)
    }

    /// Makes what is linked the device's; the segments of what is new since the last commit.
    public mutating func commit() -> [BusSegment] {
        if linked == committed { return [] }
        let first = Iova(rawValue: start.rawValue + UInt64(committed))
        // An IOMMU that remembers absent entries has to forget them; ours does not, and yet what was here before must
        // be gone.
        iommu.state.value.invalidate(first, pages: (linked - committed + 4095) >> 12)
        defer { committed = linked }
        return [BusSegment(address: BusAddress(rawValue: first.rawValue), byteCount: UInt32(linked - committed))]
    }

    /// Unlinks everything and gives the address space back.
    public consuming func destroy() throws(DMAError) {
        try device.endReservation(handle)
        isEnded = true
    }

    deinit { if !isEnded { device.countDropped() } }
}

extension DMADevice {
    /// Takes IO address space for `byteCount` bytes, at most 4 GiB. nil where there is no IOMMU, or the device's limits
    /// would cut or bounce what is linked (an alignment above 4096: each commit would have to begin so): then `map` is
    /// the way. Throws `badCount` for no bytes, or more; `noIova`.
    public func reserve(byteCount: Int, _ direction: DMADirection) throws(DMAError) -> IovaReservation? {
        guard byteCount > 0, byteCount <= Int(UInt32.max) else { throw .badCount(byteCount) }
        guard let iommu, options.constraints.cutsNothing, options.constraints.minimumAlignment <= UInt32(frameByteCount) else {
            return nil
        }
        let pages = (byteCount + 4095) >> 12
        let start = try iommu.state.value.take(pages: pages)
        let handle = hot.value.ledger.open(.reservation, direction, byteCount: UInt64(byteCount))
        hot.value.ledger.fill(handle) { record in
            record.iova = start
            record.iovaPages = Int32(pages)
        }
        return IovaReservation(self, iommu, handle, start, byteCount: byteCount, direction)
    }

    fileprivate func endReservation(_ handle: DMAHandle) throws(DMAError) {
        let record = try hot.value.ledger.find(handle, .reservation, nil)
        try iommu?.state.value.giveBack(record.iova, pages: Int(record.iovaPages))
        hot.value.ledger.close(handle)
    }
}
