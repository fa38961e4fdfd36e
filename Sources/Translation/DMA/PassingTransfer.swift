// A transfer that most devices have done before the call that gave it to them returns: a frame that is written to a
// tap. On the direct map it is counted and needs no record; one that the device keeps gets its record then.

import FrameMaps
import SharedMemory

/// What a device has been given and may have done already. Either `keep` or `end` takes it.
public struct PassingTransfer: ~Copyable {
    /// Of a transfer that has a record from its beginning; nil: on the direct map.
    @usableFromInline let handle: DMAHandle?
    @usableFromInline let direction: DMADirection
    @usableFromInline let byteCount: UInt64

    @inlinable @inline(__always)
    init(_ handle: DMAHandle?, _ direction: DMADirection, byteCount: UInt64) {
        self.handle = handle
        self.direction = direction
        self.byteCount = byteCount
    }
}

extension DMADevice {
    /// As `map`, for a transfer that the device may do at once. What comes back goes to `keep` or to `end`, before
    /// anything else is done with this device.
    @inlinable
    @inline(__always)
    public func begin(
        _ pieces: Span<PagePiece>, _ direction: DMADirection, into segments: inout [BusSegment]
    ) throws(DMAError) -> PassingTransfer {
        guard isDirect else { return PassingTransfer(try mapTranslated(pieces, direction, &segments), direction, byteCount: 0) }
        return PassingTransfer(nil, direction, byteCount: try layOut(pieces, direction, into: &segments))
    }

    /// The device has not done it yet: it is a mapping from now on, to be unmapped once.
    @inlinable
    public func keep(_ transfer: consuming PassingTransfer) -> DMAHandle {
        transfer.handle ?? recordDirect(transfer.direction, byteCount: transfer.byteCount)
    }

    /// The device has done it.
    /// - Parameter written: bytes from the first on that the device has written at most, as for `unmap`.
    @inlinable
    @inline(__always)
    public func end(_ transfer: consuming PassingTransfer, written: Int = .max) throws(DMAError) {
        guard let handle = transfer.handle else { return countPassed() }
        try unmap(handle, transfer.direction, written: written)
    }

    @usableFromInline
    func countPassed() { hot.value.ledger.passDirect() }
}
