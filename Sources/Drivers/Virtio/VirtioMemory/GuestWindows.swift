// The driver's memory on a queue's bus: an address of the driver's becomes bus segments by arithmetic, without a page
// in between.

import DMA
import FrameMaps
import SharedMemory
import VirtioRing

/// A driver's memory as the device of one queue sees it. Used by one thread.
public struct GuestWindows: ~Copyable {
    /// The addresses' regions.
    public let map: GuestMap
    private let bus: MemoryBus
    /// Where on the bus each extent of the map begins.
    @usableFromInline let starts: [BusAddress]

    /// Attaches every region, or none; nil: an extent ends beyond its window, which no region of less than a TiB does,
    /// or a real device has no place for it.
    public init?(_ map: GuestMap, on bus: MemoryBus) {
        var starts: [BusAddress] = []
        for extent in map.extents {
            guard let start = Self.start(of: extent, on: bus) else {
                for done in map.extents.prefix(starts.count) { bus.detach(done.region) }
                return nil
            }
            starts.append(start)
        }
        self.map = map
        self.bus = bus
        self.starts = starts
    }

    private static func start(of extent: GuestMap.Extent, on bus: MemoryBus) -> BusAddress? {
        guard extent.region.byteCount < 1 << 40 else { return nil }
        let address = bus.attach(extent.region)
        guard address != MemoryBus.nowhere else { return nil }
        return address.advanced(by: UInt64(extent.offset))
    }

    /// Takes the regions off the bus; what is in flight keeps its memory.
    public consuming func detach() { for extent in map.extents { bus.detach(extent.region) } }

    /// Appends a run's segments, which go on from one extent to the next where these touch; false: not all of it is
    /// there.
    @inlinable @inline(__always)
    public func append(_ run: GuestRun, to segments: inout [BusSegment]) -> Bool {
        var rest = run
        while rest.byteCount > 0 {
            guard let index = map.extentIndex(of: rest.address) else { return false }
            let extent = map.extents[index]
            let distance = rest.address &- extent.address
            let left = extent.byteCount &- distance
            let count = UInt64(rest.byteCount) <= left ? rest.byteCount : UInt32(truncatingIfNeeded: left)
            guard let address = starts[index].advanced(by: distance) else { return false }
            segments.append(BusSegment(address: address, byteCount: count))
            rest.byteCount &-= count
            // At the address space's very end nothing is left.
            rest.address &+= UInt64(count)
        }
        return true
    }
}
