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

    /// Attaches every region; nil, and none is: a region is too large for a window, a TiB or more.
    public init?(_ map: GuestMap, on bus: MemoryBus) {
        guard map.extents.allSatisfy({ $0.region.byteCount < 1 << 40 }) else { return nil }
        var starts: [BusAddress] = []
        for extent in map.extents {
            guard let start = bus.attach(extent.region).advanced(by: UInt64(extent.offset)) else {
                for attached in map.extents[...starts.count] { bus.detach(attached.region) }
                return nil
            }
            starts.append(start)
        }
        self.map = map
        self.bus = bus
        self.starts = starts
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
