// Where a region's bus addresses come from when a real device is to find them: the machine's IOMMU, or real frames.
// What is given out goes to the device as it is.

import SharedMemory

/// Makes regions reachable for one device, all of whose queues share it. Any thread; each call takes long.
public protocol BusAddressSource: AnyObject, Sendable {
    /// The address of the region's first byte, where the device finds all of it in one run; counted: a region that is
    /// there already keeps its place. nil if it cannot be had, which has been told of by then. Never 0.
    func place(_ region: SharedRegion) -> BusAddress?
    /// The device reaches it no more, once it has been taken away as often as it was placed. Nothing of the device's is
    /// under way to it.
    func remove(_ region: SharedRegion)
}

/// A region in its place, for as long as this is kept.
final class PlacedRegion: Sendable {
    let region: SharedRegion
    let start: UInt64
    private let source: any BusAddressSource

    /// nil: the source has no place for it.
    init?(_ region: SharedRegion, _ source: any BusAddressSource) {
        guard let address = source.place(region) else { return nil }
        self.region = region
        self.source = source
        start = address.rawValue
    }

    deinit { source.remove(region) }

    /// The first address behind it, or the address space's last.
    var end: UInt64 {
        let (end, wraps) = start.addingReportingOverflow(UInt64(region.byteCount))
        return wraps ? .max : end
    }
}

/// Placed regions by their addresses: few, and looked for with each segment.
struct PlacedWindows {
    /// The addresses where they start, ascending, and in the same order all else.
    private var starts: [UInt64] = []
    private var placed: [(window: PlacedRegion, attachments: Int)] = []
    let source: any BusAddressSource

    init(_ source: any BusAddressSource) { self.source = source }

    var count: Int { placed.count }

    func index(of region: SharedRegion) -> Int? { placed.firstIndex { $0.window.region === region } }

    /// The address of the region's first byte; nil if it has no place.
    mutating func attach(_ region: SharedRegion) -> BusAddress? {
        if let index = index(of: region) {
            placed[index].attachments += 1
            return BusAddress(rawValue: starts[index])
        }
        guard let window = PlacedRegion(region, source) else { return nil }
        let index = place(behind: window.start)
        starts.insert(window.start, at: index)
        placed.insert((window, 1), at: index)
        return BusAddress(rawValue: window.start)
    }

    /// What was taken away, to be kept while something is under way; nil: it is attached still, or never was.
    mutating func detach(_ region: SharedRegion) -> PlacedRegion? {
        guard let index = index(of: region) else { return nil }
        placed[index].attachments -= 1
        if placed[index].attachments > 0 { return nil }
        starts.remove(at: index)
        return placed.remove(at: index).window
    }

    /// The region that has all of these bytes, and where in it they are; nil: none has, or it may not be written.
    func find(_ segment: BusSegment, _ direction: DMADirection) -> (region: SharedRegion, offset: Int)? {
        let index = place(behind: segment.address.rawValue) - 1
        guard index >= 0, segment.byteCount > 0 else { return nil }
        let region = placed[index].window.region
        let offset = segment.address.rawValue &- starts[index]
        let size = UInt64(region.byteCount)
        guard offset < size, UInt64(segment.byteCount) <= size &- offset, direction == .toDevice || region.isWritable else {
            return nil
        }
        return (region, Int(offset))
    }

    /// How many begin at `address` or before it.
    private func place(behind address: UInt64) -> Int {
        var (low, high) = (0, starts.count)
        while low < high {
            let middle = (low + high) / 2
            if starts[middle] <= address { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
