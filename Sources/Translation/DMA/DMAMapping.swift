// A mapping as a value that has to be ended: the compiler sees to it that it is not used afterwards or ended twice, and
// its direction is a type, so that a sync for the wrong side does not compile. The data path uses handles, which are
// checked at run time; this is for everybody else.

/// A transfer that a device has. End it with `unmap`. One that is dropped instead stays mapped, because the device may
/// still be moving data: it is counted as a misuse, and the device's `close` reports it.
public struct DMAMapping<Direction: DMADirectionType>: ~Copyable {
    /// What the device is to be given.
    public let segments: [BusSegment]
    /// Why parts of it went through the bounce pool, in the transfer's order.
    public let bounced: [BouncedPiece]
    private let device: DMADevice
    private let handle: DMAHandle
    private var isEnded = false

    init(_ device: DMADevice, _ handle: DMAHandle, _ segments: [BusSegment], _ bounced: [BouncedPiece]) {
        self.device = device
        self.handle = handle
        self.segments = segments
        self.bounced = bounced
    }

    /// Ends it. What the device wrote is in the pages afterwards. If that fails the mapping stays as it is, as a
    /// dropped one does.
    public consuming func unmap() throws(DMAError) {
        try device.unmap(handle, Direction.direction)
        isEnded = true
    }

    deinit { if !isEnded { device.countDropped() } }
}

extension DMAMapping where Direction: DeviceWrites {
    /// Makes `byteCount` bytes at `offset`, as the device has written them, visible in the pages.
    public borrowing func syncForCPU(offset: Int, byteCount: Int) throws(DMAError) {
        try device.syncForCPU(handle, offset: offset, byteCount: byteCount)
    }
}

extension DMAMapping where Direction: DeviceReads {
    /// Shows the device what has changed in the pages since.
    public borrowing func syncForDevice(offset: Int, byteCount: Int) throws(DMAError) {
        try device.syncForDevice(handle, offset: offset, byteCount: byteCount)
    }
}

extension DMADevice {
    /// Maps pieces for a device that moves data in the direction that the type names.
    public func map<Direction: DMADirectionType>(
        _ pieces: Span<PagePiece>, _ direction: Direction.Type
    ) throws(DMAError) -> DMAMapping<Direction> {
        var segments: [BusSegment] = []
        let handle = try map(pieces, Direction.direction, into: &segments)
        return DMAMapping(self, handle, segments, (try? bouncedPieces(of: handle)) ?? [])
    }

    /// Maps a part of one page.
    public func map<Direction: DMADirectionType>(
        _ piece: PagePiece, _ direction: Direction.Type
    ) throws(DMAError) -> DMAMapping<Direction> { try map([piece].span, direction) }

    func countDropped() { _ = hot.value.ledger.misuse(.notMapped) }
}
