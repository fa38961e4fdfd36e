@testable import DMA
import SharedMemory
import Testing
import TestSupport

@Suite struct MemoryBusTests {
    private func resolves(_ bus: MemoryBus, _ address: UInt64, _ count: UInt32, _ direction: DMADirection = .toDevice) -> Bool {
        unsafe bus.resolve(BusSegment(address: BusAddress(rawValue: address), byteCount: count), direction) != nil
    }

    @Test func everyBoundaryOfAWindow() throws {
        let bus = MemoryBus()
        let region = try SharedRegion(anonymous: 8192)
        let base = bus.attach(region).rawValue
        for offset in [UInt64(0), 1, 4095, 4096, 8191, 8192, 8193] {
            for count in [UInt32(0), 1, 4096, 8191, 8192, 8193, .max] {
                let inside = count > 0 && offset + UInt64(count) <= 8192
                #expect(resolves(bus, base + offset, count) == inside, "offset \(offset), \(count) bytes")
            }
        }
        #expect(!resolves(bus, base - 1, 1))
        for address in [0, 1, 4096, 8191, UInt64.max, base >> 40, base ^ (1 << 40), base ^ (1 << 60), base ^ (1 << 63)] {
            #expect(!resolves(bus, address, 1), "\(address)")
        }
        let address = unsafe bus.resolve(BusSegment(address: BusAddress(rawValue: base + 4097), byteCount: 1), .fromDevice)
        #expect(unsafe address == region.unsafeBase + 4097)
    }

    @Test func windowsAreNotAdjacentAndNotReused() throws {
        let bus = MemoryBus()
        var old: [UInt64] = []
        for _ in 0..<15 {
            let region = try SharedRegion(anonymous: 4096)
            let base = bus.attach(region).rawValue
            #expect(old.allSatisfy { !resolves(bus, $0, 1) })
            #expect(resolves(bus, base, 4096))
            bus.detach(region)
            #expect(!resolves(bus, base, 1))
            old.append(base)
        }
        #expect(Set(old).count == 15)
        let regions = try (0..<100).map { _ in try SharedRegion(anonymous: 4096) }
        let bases = regions.map { bus.attach($0).rawValue }.sorted()
        #expect(zip(bases, bases.dropFirst()).allSatisfy { $1 - $0 >= 1 << 40 })
        #expect(bases.allSatisfy { resolves(bus, $0, 4096) && !resolves(bus, $0 + 4096, 1) })
    }

    @Test func attachmentsAreCountedAndKeepTheRegion() throws {
        let bus = MemoryBus()
        var region: SharedRegion? = try SharedRegion(anonymous: 4096)
        weak let watched = region
        let first = bus.attach(region!)
        #expect(bus.attach(region!) == first)
        bus.detach(region!)
        #expect(resolves(bus, first.rawValue, 1))
        region = nil
        #expect(watched != nil)
        if let watched { bus.detach(watched) }
        #expect(watched == nil)
        #expect(bus.windowCount == 0)
    }

    @Test func aReadOnlyRegionTakesNoDeviceWrites() throws {
        let backing = try SharedRegion(anonymous: 4096)
        let region = unsafe SharedRegion(adopting: backing.unsafeBase, byteCount: 4096, writable: false) { _, _ in }
        let bus = MemoryBus()
        let base = bus.attach(region).rawValue
        #expect(resolves(bus, base, 4096, .toDevice))
        #expect(!resolves(bus, base, 4096, .fromDevice))
        withExtendedLifetime(backing) {}
    }

    /// A grant of one request goes before that request is answered, whatever else is in flight: Linux's blkfront
    /// disables a disk whose backend still has a page when it answers.
    @Test func anIdleRegionGoesAtOnceWhateverIsInFlight() throws {
        for translated in [false, true] {
            let device = try DMADevice(name: "test", options: DMAOptions(model: translated ? .p2m : .vp))
            let flight = device.bus.beginFlight()
            var region: SharedRegion? = try SharedRegion(anonymous: 4096)
            weak let watched = region
            _ = device.attach(region!)
            device.detachIdle(region!)
            region = nil
            #expect(watched == nil && device.bus.retiredCount == 0)
            device.bus.endFlight(flight)
        }
    }

    /// All orders of begin, end and detach: a region goes exactly when the last operation begun before its detachment
    /// has ended.
    @Test func detachedRegionsOutliveTheOperationsBegunBefore() throws {
        var generator = SplitMix(7)
        for _ in 0..<300 {
            let bus = MemoryBus()
            var live: [SharedRegion] = []
            var flights: [(id: Int, flight: Flight)] = []
            var watched: [(region: () -> SharedRegion?, needs: Set<Int>)] = []
            var next = 0
            for _ in 0..<40 {
                switch Int.random(in: 0..<4, using: &generator) {
                case 0:
                    let region = try SharedRegion(anonymous: 4096)
                    _ = bus.attach(region)
                    live.append(region)
                case 1:
                    flights.append((next, bus.beginFlight()))
                    next += 1
                case 2 where !flights.isEmpty:
                    bus.endFlight(flights.remove(at: Int.random(in: 0..<flights.count, using: &generator)).flight)
                case 3 where !live.isEmpty:
                    let region = live.removeFirst()
                    watched.append(({ [weak region] in region }, Set(flights.map(\.id))))
                    bus.detach(region)
                default: break
                }
                let active = Set(flights.map(\.id))
                for entry in watched where !entry.needs.isDisjoint(with: active) { #expect(entry.region() != nil) }
            }
            for entry in flights { bus.endFlight(entry.flight) }
            #expect(watched.allSatisfy { $0.region() == nil })
            #expect(bus.retiredCount == 0 && bus.flightCount == 0)
        }
    }
}
