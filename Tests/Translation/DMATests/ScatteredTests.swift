// A bus for a device that finds each page of a region somewhere else: what the device is told is held against a table
// of every byte.

@testable import DMA
import SharedMemory
import Synchronization
import Testing
import TestSupport

/// Gives out what it was told to, and counts.
private final class ListedSource: BusAddressSource {
    private let state = Mutex<(placements: [ObjectIdentifier: BusPlacement], placed: [ObjectIdentifier: Int])>(([:], [:]))
    let asked = Mutex<[[UInt64]?]>([])

    func set(_ region: SharedRegion, _ placement: BusPlacement) {
        state.withLock { $0.placements[ObjectIdentifier(region)] = placement }
    }
    func place(_ region: SharedRegion, machine: () -> [UInt64]?) -> BusPlacement? {
        let frames = machine()
        asked.withLock { $0.append(frames) }
        return state.withLock { state in
            guard let placement = state.placements[ObjectIdentifier(region)] else { return nil }
            state.placed[ObjectIdentifier(region), default: 0] += 1
            return placement
        }
    }
    func remove(_ region: SharedRegion) { state.withLock { $0.placed[ObjectIdentifier(region), default: 0] -= 1 } }
    func count(_ region: SharedRegion) -> Int { state.withLock { $0.placed[ObjectIdentifier(region)] ?? 0 } }
}

@Suite struct ScatteredTests {
    private static func told(_ bus: MemoryBus, _ segments: [BusSegment]) -> [DeviceSegment] {
        var told: [DeviceSegment] = []
        for segment in segments { bus.tell(segment, to: &told) }
        return told
    }

    /// Random regions, scattered or in one run, some of their frames neighbours and some the same: each byte is told to
    /// be where the table has it, in no more runs than it takes.
    @Test(arguments: 1...8 as ClosedRange<UInt64>) func everyByteIsWhereItIs(seed: UInt64) throws {
        var random = SplitMix(seed)
        let source = ListedSource()
        let bus = MemoryBus()
        #expect(bus.takeAddresses(from: source))
        var regions: [(region: SharedRegion, base: BusAddress, pages: [UInt64])] = []
        for index in 0..<12 {
            let region = try SharedRegion(anonymous: Int.random(in: 1...20, using: &random) * 4096)
            var pages: [UInt64] = []
            var frame = UInt64.random(in: 1..<1 << 39, using: &random)
            for _ in 0..<region.pageCount {
                pages.append(frame)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: frame += 1
                case 1: frame = pages.randomElement(using: &random) ?? frame
                default: frame = UInt64.random(in: 1..<1 << 39, using: &random)
                }
            }
            if index % 4 == 0 {
                let start = UInt64(index + 1) << 30
                pages = (0..<UInt64(region.pageCount)).map { page in (start >> 12) + page }
                source.set(region, .contiguous(DeviceAddress(rawValue: start)))
            } else {
                source.set(region, try #require(BusPlacement(frames: pages)))
            }
            regions.append((region, bus.attach(region), pages))
        }
        for _ in 0..<60 {
            var (segments, expected) = ([BusSegment](), [UInt64]())
            for _ in 0..<Int.random(in: 1...5, using: &random) {
                let (region, base, pages) = try #require(regions.randomElement(using: &random))
                let offset = Int.random(in: 0..<region.byteCount, using: &random)
                let count = Int.random(in: 1...min(10000, region.byteCount - offset), using: &random)
                segments.append(BusSegment(address: base.advanced(by: UInt64(offset))!, byteCount: UInt32(count)))
                expected += (offset..<offset + count).map { pages[$0 >> 12] << 12 | UInt64($0 & 0xFFF) }
            }
            for segment in segments {
                #expect(bus.isPlaced(segment, .fromDevice) && bus.isReachable(segment, .toDevice))
            }
            let told = Self.told(bus, segments)
            var bytes: [UInt64] = []
            for part in told {
                for index in 0..<UInt64(part.byteCount) { bytes.append(part.address.rawValue + index) }
            }
            #expect(bytes == expected)
            let borders = zip(expected, expected.dropFirst()).count { $0 &+ 1 != $1 }
            #expect(told.count <= borders + segments.count)
        }
        for (region, _, _) in regions {
            bus.detach(region)
            #expect(source.count(region) == 0)
        }
        #expect(bus.windowCount == 0)
    }

    /// Two regions of one frame: each has its own rights, and one's end is not the other's.
    @Test func oneFrameTwice() throws {
        let source = ListedSource()
        let device = try DMADevice(name: "nvme")
        #expect(device.bus.takeAddresses(from: source))
        let memory = try SealedMemory("placed", byteCount: 4096, final: true)
        let readable = try SharedRegion(mapping: memory.descriptor, byteCount: 4096, writable: false)
        let writable = try SharedRegion(anonymous: 4096)
        for region in [readable, writable] { source.set(region, try #require(BusPlacement(frames: [77]))) }
        let pages = (try #require(device.attach(readable, machine: [77])), try #require(device.attach(writable)))
        #expect(source.asked.withLock { $0 } == [[77], nil])
        var segments: [BusSegment] = []
        #expect(throws: DMAError.notWritable(pages.0)) {
            _ = try device.map([PagePiece(pfn: pages.0, offset: 0, byteCount: 8)].span, .fromDevice, into: &segments)
        }
        _ = try device.map([PagePiece(pfn: pages.1, offset: 8, byteCount: 8)].span, .fromDevice, into: &segments)
        #expect(Self.told(device.bus, segments) == [DeviceSegment(address: DeviceAddress(rawValue: 77 << 12 + 8), byteCount: 8)])
        device.detach(readable)
        #expect(device.bus.isPlaced(segments[0], .fromDevice))
        #expect(source.count(readable) == 0 && source.count(writable) == 1)
        // As often as attached; what is in flight keeps its place.
        #expect(device.attach(writable) == pages.1)
        device.detach(writable)
        let flight = device.bus.beginFlight()
        device.detach(writable)
        #expect(!device.bus.isPlaced(segments[0], .fromDevice) && source.count(writable) == 1)
        device.bus.endFlight(flight)
        #expect(source.count(writable) == 0)
    }

    /// What is no frame, and what is not one address a page, is no place.
    @Test func unsound() throws {
        for frame in [0, 1 << 40 - 1, 1 << 55 - 1, .max] as [UInt64] {
            #expect(BusPlacement(frames: [5, frame]) == nil)
            #expect(DeviceAddress(frame: frame) == nil)
        }
        let region = try SharedRegion(anonymous: 8192)
        let source = ListedSource()
        let device = try DMADevice(name: "nvme")
        #expect(device.bus.takeAddresses(from: source))
        func address(_ value: UInt64) -> DeviceAddress { DeviceAddress(rawValue: value) }
        let bad: [BusPlacement] = [
            .contiguous(.none), .contiguous(address(1 << 60)), .pages([]), .pages([address(4096)]),
            .pages([address(4096), .none]), .pages([address(4096), address(8200)]), .pages([address(4096), address(1 << 60)]),
            .pages([address(4096), address(8192), address(12288)]),
        ]
        for placement in bad {
            source.set(region, placement)
            #expect(device.attach(region) == nil, "\(placement)")
            #expect(source.count(region) == 0)
        }
    }
}
