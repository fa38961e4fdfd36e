// The bus of a real device's queue: the addresses are the device's own, and what is looked up here is only whether they
// are there. A region is mapped for the device when the first of its queues attaches it.

import FrameMaps
import SharedMemory

extension MemoryBus {
    /// Where nothing is: the address space's last page.
    public static let nowhere = BusAddress(rawValue: ~(frameByteCount - 1))

    /// From now on regions are at the addresses that `source` gives them. False, and nothing changes, on a bus that
    /// something is attached to, or whose addresses are a memory model's.
    public func takeAddresses(from source: any BusAddressSource) -> Bool {
        guard frames == nil, windowCount == 0, placed == nil else { return false }
        placed = PlacedWindows(source)
        return true
    }

    /// Whether a real device gets the addresses.
    public var isPlacing: Bool { placed != nil }

    func attachPlaced(_ region: SharedRegion) -> BusAddress? { placed?.attach(region) }

    /// The device may be at work in it: it keeps its place until that has ended.
    func detachPlaced(_ region: SharedRegion) {
        if let window = placed?.detach(region) { flights.retire(window) }
    }

    /// Whether all of a segment is there for the device, on a bus that `isPlacing`.
    @inline(__always)
    public func isPlaced(_ segment: BusSegment, _ direction: DMADirection) -> Bool {
        placed?.find(segment, direction) != nil
    }

    /// As `holds`, on a bus that `isPlacing`.
    @usableFromInline @inline(never)
    func holdsPlaced(_ piece: PagePiece, _ direction: DMADirection) -> Bool {
        guard let placed, piece.isWithinPage, piece.pfn.rawValue < frameNumberLimit else { return false }
        let address = BusAddress(rawValue: piece.pfn.rawValue << frameShift | UInt64(piece.offset))
        return placed.find(BusSegment(address: address, byteCount: piece.byteCount), direction) != nil
    }
}
