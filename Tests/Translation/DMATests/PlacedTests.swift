// A bus whose addresses are a real device's, and transfers cut where such a device cannot take them in one.

@testable import DMA
import SharedMemory
import Synchronization
import Testing
import TestSupport

/// Gives out addresses from below, of which it keeps a count.
private final class CountingSource: BusAddressSource {
    private let state = Mutex<(next: UInt64, placed: [ObjectIdentifier: (start: UInt64, count: Int)], room: Int)>(
        (0x10000, [:], .max))

    func place(_ region: SharedRegion, machine: () -> [UInt64]?) -> BusPlacement? {
        state.withLock { state in
            if let place = state.placed[ObjectIdentifier(region)] {
                state.placed[ObjectIdentifier(region)]?.count += 1
                return .contiguous(DeviceAddress(rawValue: place.start))
            }
            if state.placed.count == state.room { return nil }
            state.placed[ObjectIdentifier(region)] = (state.next, 1)
            defer { state.next += UInt64(region.byteCount) }
            return .contiguous(DeviceAddress(rawValue: state.next))
        }
    }
    func remove(_ region: SharedRegion) {
        state.withLock { state in
            let count = state.placed[ObjectIdentifier(region)]?.count ?? 0
            state.placed[ObjectIdentifier(region)] = count > 1 ? (state.placed[ObjectIdentifier(region)]!.start, count - 1) : nil
        }
    }
    var count: Int { state.withLock { $0.placed.count } }
    func setRoom(_ room: Int) { state.withLock { $0.room = room } }
}

@Suite struct PlacedTests {
    @Test func places() throws {
        let source = CountingSource()
        let device = try DMADevice(name: "nvme")
        let bus = device.bus
        #expect(bus.takeAddresses(from: source))
        #expect(!bus.takeAddresses(from: source))
        let (first, second) = (try SharedRegion(anonymous: 8192), try SharedRegion(anonymous: 4096))
        let start = try #require(device.attach(first))
        #expect(start.rawValue == 0x10)
        #expect(bus.attach(second).rawValue == 0x12000)
        #expect(device.attach(first) == start)
        #expect(bus.windowCount == 2)
        // The last byte of one, the first of the next, and both in one: two regions are no run of this process's
        // memory.
        #expect(bus.isReachable(BusSegment(address: BusAddress(rawValue: 0x11FFF), byteCount: 1), .fromDevice))
        #expect(bus.isReachable(BusSegment(address: BusAddress(rawValue: 0x12000), byteCount: 4096), .fromDevice))
        #expect(!bus.isReachable(BusSegment(address: BusAddress(rawValue: 0x11FFF), byteCount: 2), .fromDevice))
        #expect(!bus.isReachable(BusSegment(address: BusAddress(rawValue: 0x13000), byteCount: 1), .fromDevice))
        #expect(!bus.isReachable(BusSegment(address: BusAddress(rawValue: 0xFFFF), byteCount: 1), .fromDevice))
        // The transfer's addresses are the device's.
        var segments: [BusSegment] = []
        let piece = PagePiece(pfn: Pfn(rawValue: 0x11), offset: 512, byteCount: 1024)
        let handle = try device.map([piece].span, .toDevice, into: &segments)
        #expect(segments == [BusSegment(address: BusAddress(rawValue: 0x11200), byteCount: 1024)])
        try device.unmap(handle, .toDevice)
        #expect(throws: DMAError.noSuchPage(Pfn(rawValue: 0x13))) {
            _ = try device.map([PagePiece(pfn: Pfn(rawValue: 0x13), offset: 0, byteCount: 1)].span, .toDevice, into: &segments)
        }
        // As often as attached; what is in flight keeps the place, and an idle one goes at once.
        let flight = bus.beginFlight()
        device.detach(first)
        #expect(bus.windowCount == 2)
        device.detach(first)
        #expect(bus.windowCount == 1 && source.count == 2)
        device.detachIdle(second)
        #expect(source.count == 1)
        bus.endFlight(flight)
        #expect(source.count == 0)
    }

    @Test func refusals() throws {
        let region = try SharedRegion(anonymous: 4096)
        let used = MemoryBus()
        _ = used.attach(region)
        #expect(!used.takeAddresses(from: CountingSource()))
        #expect(!(try MemoryBus(model: .p2m)).takeAddresses(from: CountingSource()))
        let source = CountingSource()
        source.setRoom(0)
        let device = try DMADevice(name: "nvme")
        #expect(device.bus.takeAddresses(from: source))
        #expect(device.attach(region) == nil)
        #expect(device.bus.attach(region) == MemoryBus.nowhere)
        #expect(!device.bus.isReachable(BusSegment(address: MemoryBus.nowhere, byteCount: 1), .toDevice))
    }

    /// Read-only memory is not written by the device.
    @Test func readOnly() throws {
        let memory = try SealedMemory("placed", byteCount: 4096, final: true)
        let region = try SharedRegion(mapping: memory.descriptor, byteCount: 4096, writable: false)
        let device = try DMADevice(name: "nvme")
        #expect(device.bus.takeAddresses(from: CountingSource()))
        let page = try #require(device.attach(region))
        var segments: [BusSegment] = []
        #expect(throws: DMAError.notWritable(page)) {
            _ = try device.map([PagePiece(pfn: page, offset: 0, byteCount: 1)].span, .fromDevice, into: &segments)
        }
        _ = try device.map([PagePiece(pfn: page, offset: 0, byteCount: 1)].span, .toDevice, into: &segments)
    }

    // MARK: Parts

    private func parts(_ segments: [(UInt64, UInt32)], most: UInt64 = .max >> 1, unit: UInt32 = 512, mask: UInt64 = 4095)
        -> [UInt64]?
    {
        let limits = DMAConstraints(virtualBoundaryMask: mask)
        let list = segments.map { DeviceSegment(address: DeviceAddress(rawValue: $0.0), byteCount: $0.1) }
        var (place, parts) = (TransferPlace(), [UInt64]())
        while place.segment < list.count {
            guard let count = limits.partByteCount(of: list.span, from: place, most: most, unit: unit) else { return nil }
            parts.append(count)
            place.advance(count, in: list.span)
        }
        return parts
    }

    @Test func cuts() {
        // Whole pages anywhere are one part, also where the first begins late and the last ends early.
        #expect(parts([(0x1E00, 512), (0x5000, 4096), (0x9000, 512)]) == [5120])
        #expect(parts([(0x1000, 512), (0x5000, 512)]) == [512, 512])
        #expect(parts([(0x1E00, 512), (0x5200, 512)]) == [512, 512])
        // Neighbours have no gap between them.
        #expect(parts([(0x1000, 512), (0x1200, 512), (0x1400, 1024)]) == [2048])
        #expect(parts([(0x1000, 512), (0x5000, 512)], mask: 0) == [1024])
        // The limit, and what is left.
        #expect(parts([(0x1000, 10240)], most: 4096) == [4096, 4096, 2048])
        #expect(parts([(0x1000, 3584), (0x1E00, 8704)], most: 4096) == [4096, 4096, 4096])
        #expect(parts([(0x1000, 1536), (0x9000, 512)], most: 1024) == [1024, 512, 512])
        // A unit on both sides of a gap.
        #expect(parts([(0x1000, 2048), (0x9000, 2048)], unit: 4096) == nil)
        #expect(parts([(0x1000, 4096), (0x9000, 2048), (0x9800, 2048)], unit: 4096) == [8192])
        #expect(parts([]) == [])
    }

    @Test func limits() {
        #expect(throws: DMAError.self) {
            try DMADevice(name: "x", options: DMAOptions(constraints: DMAConstraints(virtualBoundaryMask: 5)))
        }
        #expect(throws: Never.self) {
            try DMADevice(name: "x", options: DMAOptions(constraints: DMAConstraints(virtualBoundaryMask: 4095)))
        }
    }
}
