// Where a region's bus addresses come from when a real device is to find them: the machine's IOMMU, or real frames.
// What is given out goes to the device as it is.

import FrameMaps
import LinuxSystem
import SharedMemory

/// Makes regions reachable for one device, all of whose queues share it. Any thread; each call takes long.
public protocol BusAddressSource: AnyObject, Sendable {
    /// Where the device finds the region; counted: a region that is there already keeps its place. nil if it cannot be
    /// had, which has been told of by then.
    /// - Parameter machine: the machine frame of each of its pages, where the hypervisor said so when it mapped them;
    ///   nil: it did not, or they are this process's own. Asked only by who can use them: a hypervisor of this
    ///   process's own makes them up.
    func place(_ region: SharedRegion, machine: () -> [UInt64]?) -> BusPlacement?
    /// The device reaches it no more, once it has been taken away as often as it was placed. Nothing of the device's is
    /// under way to it.
    func remove(_ region: SharedRegion)
    /// Whether a peer's pages are to be mapped for the device by the hypervisor: then no page has a place that was not.
    var takesMachineFrames: Bool { get }
    /// Makes memory of this process's own that has a place: whole pages, zeroed.
    func makeMemory(_ byteCount: Int) throws(Errno) -> SharedRegion
}

extension BusAddressSource {
    /// Peers' pages are this process's memory like any other.
    public var takesMachineFrames: Bool { false }
    /// Any memory will do.
    public func makeMemory(_ byteCount: Int) throws(Errno) -> SharedRegion { try SharedRegion(anonymous: byteCount) }
    /// Places memory that is this process's own.
    public func place(_ region: SharedRegion) -> BusPlacement? { place(region) { nil } }
}

/// A region in its place, for as long as this is kept.
///
/// SAFETY: `pages` is memory of its own, `region.pageCount` addresses, all initialized and never changed after `init`;
/// freed in `deinit`.
@safe
final class PlacedRegion: @unchecked Sendable {
    let region: SharedRegion
    /// The first byte, where it is in one run; 0: each page has an address of its own.
    let start: UInt64
    /// Where each page is; nil: all are in one run.
    let pages: UnsafeMutablePointer<DeviceAddress>?
    private let source: any BusAddressSource

    /// nil: the source has no place for it.
    init?(_ region: SharedRegion, _ source: any BusAddressSource, _ machine: () -> [UInt64]?) {
        guard let placement = source.place(region, machine: machine) else { return nil }
        // What goes to a device as it is is looked at once more.
        guard placement.isSound(region.pageCount) else {
            source.remove(region)
            return nil
        }
        self.region = region
        self.source = source
        switch placement {
        case .contiguous(let address):
            start = address.rawValue
            unsafe pages = nil
        case .pages(let addresses):
            start = 0
            let memory = UnsafeMutablePointer<DeviceAddress>.allocate(capacity: addresses.count)
            for index in addresses.indices { unsafe (memory + index).initialize(to: addresses[index]) }
            unsafe pages = memory
        }
    }

    deinit {
        source.remove(region)
        unsafe pages?.deallocate()
    }

    /// Whether it is in one run.
    var isContiguous: Bool { unsafe pages == nil }
}

/// Regions that are in one run each, by their addresses: few, and looked for with each segment.
struct PlacedWindows {
    /// The addresses where they start, ascending, and in the same order all else.
    private var starts: [UInt64] = []
    private var placed: [(window: PlacedRegion, attachments: Int)] = []
    let source: any BusAddressSource

    init(_ source: any BusAddressSource) { self.source = source }

    var count: Int { placed.count }

    func index(of region: SharedRegion) -> Int? { placed.firstIndex { $0.window.region === region } }

    /// The address of the region's first byte, if it is there; counted once more.
    mutating func attachAgain(_ region: SharedRegion) -> BusAddress? {
        guard let index = index(of: region) else { return nil }
        placed[index].attachments += 1
        return BusAddress(rawValue: starts[index])
    }

    /// Puts a region that is in one run among the others.
    mutating func add(_ window: PlacedRegion) -> BusAddress {
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
