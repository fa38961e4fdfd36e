// The bus of a real device's queue. A region is made reachable for the device when the first of its queues attaches it.
// Where the device finds it in one run, its bus addresses are the device's own, and what is looked up here is only
// whether they are there. Where each page has an address of its own, the region gets a window like any other, and what
// the device is told is looked up in the window's table: so two regions may show the same frame, as two grants of one
// page do, and each keeps its own rights and its own end.

import FrameMaps
import SharedMemory

extension MemoryBus {
    /// Where nothing is: the address space's last page.
    public static let nowhere = BusAddress(rawValue: ~(frameByteCount - 1))
    /// Windows are at this address and above (their generation is never 0), real devices' own addresses below.
    @usableFromInline static let firstWindow: UInt64 = 1 << 60

    /// From now on regions are where `source` has them for its device. False, and nothing changes, on a bus that
    /// something is attached to, or whose addresses are a memory model's.
    public func takeAddresses(from source: any BusAddressSource) -> Bool {
        guard frames == nil, windowCount == 0, placed == nil else { return false }
        placed = PlacedWindows(source)
        return true
    }

    /// Whether a real device gets the addresses.
    public var isPlacing: Bool { placed != nil }
    /// Whether that device goes by machine frames, for which the hypervisor has to map a peer's pages.
    public var takesMachineFrames: Bool { placed?.source.takesMachineFrames ?? false }

    func attachPlaced(_ region: SharedRegion, machine: () -> [UInt64]?) -> BusAddress? {
        if let address = attachedAgain(region) ?? placed?.attachAgain(region) { return address }
        guard let source = placed?.source, hasRoom(for: region), let window = PlacedRegion(region, source, machine) else {
            return nil
        }
        return window.isContiguous ? placed?.add(window) : open(region, window)
    }

    /// The device may be at work in it: it keeps its place until that has ended.
    func detachPlaced(_ region: SharedRegion) {
        if let window = placed?.detach(region) ?? close(region) { flights.retire(window) }
    }

    /// Whether all of a segment is there for the device, on a bus that `isPlacing`.
    @inline(__always)
    public func isPlaced(_ segment: BusSegment, _ direction: DMADirection) -> Bool {
        if segment.address.rawValue >= Self.firstWindow { return unsafe resolve(segment, direction) != nil }
        return placed?.find(segment, direction) != nil
    }

    /// As `holds`, on a bus that `isPlacing`.
    @usableFromInline @inline(never)
    func holdsPlaced(_ piece: PagePiece, _ direction: DMADirection) -> Bool {
        guard let placed, piece.isWithinPage, piece.pfn.rawValue < frameNumberLimit else { return false }
        let address = BusAddress(rawValue: piece.pfn.rawValue << frameShift | UInt64(piece.offset))
        return placed.find(BusSegment(address: address, byteCount: piece.byteCount), direction) != nil
    }

    /// Appends a segment that `isPlaced` as the device is told of it: in as many runs as it finds it in.
    @inlinable @inline(__always)
    public func tell(_ segment: BusSegment, to segments: inout [DeviceSegment]) {
        if segment.address.rawValue < Self.firstWindow {
            segments.append(
                DeviceSegment(address: DeviceAddress(rawValue: segment.address.rawValue), byteCount: segment.byteCount))
        } else {
            tellPages(of: segment, to: &segments)
        }
    }

    /// The same of a window's.
    @usableFromInline @inline(never)
    func tellPages(of segment: BusSegment, to segments: inout [DeviceSegment]) {
        // SAFETY: a window that has all of the segment, whose pages are those of its region's.
        precondition(unsafe resolve(segment, .toDevice) != nil, "a segment that is not there")
        let slot = Int(truncatingIfNeeded: segment.address.rawValue >> Self.offsetBits & Self.slotMask)
        guard let pages = unsafe table.pointee.windows[slot].pages else {
            preconditionFailure("a window of no device's on its bus")
        }
        var offset = segment.address.rawValue & ((1 << Self.offsetBits) &- 1)
        var left = UInt64(segment.byteCount)
        while left > 0 {
            let inPage = offset & (frameByteCount &- 1)
            let count = min(frameByteCount &- inPage, left)
            let address = unsafe pages[Int(offset >> frameShift)].inRun(behind: inPage)
            offset &+= count
            left &-= count
            if let last = segments.indices.last, segments[last].isFollowed(by: address, count) {
                segments[last].byteCount &+= UInt32(truncatingIfNeeded: count)
            } else {
                segments.append(DeviceSegment(address: address, byteCount: UInt32(truncatingIfNeeded: count)))
            }
        }
    }
}

extension DeviceSegment {
    /// Whether `count` bytes at `next` go on where it ends, and it has room for them.
    fileprivate func isFollowed(by next: DeviceAddress, _ count: UInt64) -> Bool {
        address.inRun(behind: UInt64(byteCount)) == next && UInt64(byteCount) + count <= UInt64(UInt32.max)
    }
}
