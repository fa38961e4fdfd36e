// A device that is killed at every instruction that matters. The ledger's and the ring's ordered stores are each one
// word; after each of them the ring's and the ledger's memory are copied, and each copy is a world in which the process
// died there. In every such world a successor must do exactly what is unanswered, and the driver must see each of its
// chains used exactly once.

import SharedMemory
import Testing
import TestSupport
@testable import VirtioRing
import VirtioWire

/// A driver that never hears of its device's death: its private state is a value and is copied with the world.
private struct ModelDriver {
    let size: Int
    var available: UInt16
    var used: UInt16
    /// Heads that are out, each with what its chain says; and how often anything was used.
    var out: [UInt16: UInt32] = [:]
    var answers = 0
    var nextWord: UInt32 = 1

    mutating func submit(_ count: Int, _ areas: VirtqueueAreas) {
        for _ in 0..<count {
            guard let head = (0..<UInt16(size)).first(where: { out[$0] == nil }) else { break }
            // The chain's length is what tells it from others.
            SplitDescriptor(address: Rig.data, byteCount: nextWord, flags: .write).store(
                areas.descriptors.region, at: areas.descriptors.offset + 16 * Int(head))
            areas.driver.region.storeRelaxed16(head, at: areas.driver.offset + 4 + 2 * Int(available % UInt16(size)))
            out[head] = nextWord
            nextWord = nextWord % 0x1_0000 + 1
            available &+= 1
        }
        areas.driver.region.storeReleasing16(available, at: areas.driver.offset + 2)
    }

    mutating func reap(_ areas: VirtqueueAreas) {
        let shown = areas.device.region.loadAcquiring16(areas.device.offset + 2)
        while used != shown {
            let one = UsedElement(areas.device.region, at: areas.device.offset + 4 + 8 * Int(used % UInt16(size)))
            let expected = out.removeValue(forKey: UInt16(one.id))
            #expect(expected == one.written, "req.0:id \(one.id) is not a head")
            used &+= 1
            answers += 1
        }
    }
}

/// What a kill leaves.
private struct Remains {
    let ring: [UInt8]
    let ledger: [UInt8]
    let driver: ModelDriver
}

private final class World {
    static let size = 8
    static let features: VirtioFeatures = [.version1]
    let ring: SharedRegion
    let memory: SharedRegion
    let areas: VirtqueueAreas
    let map: GuestMap
    var driver: ModelDriver
    /// Of the device that lives: what it has taken.
    var inWork: [(ticket: ChainTicket, word: UInt32)] = []

    init(start: UInt16) throws {
        ring = try SharedRegion(anonymous: 4096)
        memory = try SharedRegion(anonymous: SharedRegion.wholePages(InflightLayout.byteCount(Self.size)))
        areas = VirtqueueAreas(in: ring, size: Self.size, features: Self.features)
        map = try GuestMap([.init(address: Rig.data, byteCount: 0x2_0000, region: SharedRegion(anonymous: 0x2_0000))])
        driver = ModelDriver(size: Self.size, available: start, used: start)
        areas.driver.region.storeRelaxed16(start, at: areas.driver.offset + 2)
        areas.device.region.storeRelaxed16(start, at: areas.device.offset + 2)
    }

    convenience init(_ remains: Remains) throws {
        try self.init(start: 0)
        ring.write(remains.ring, at: 0)
        memory.write(remains.ledger, at: 0)
        driver = remains.driver
    }

    var remains: Remains {
        Remains(ring: ring.bytes(at: 0, count: 4096), ledger: memory.bytes(at: 0, count: memory.byteCount), driver: driver)
    }

    func recover() throws -> InflightRecovery {
        try InflightRecovery(
            RingArea(memory, at: 0), size: Self.size, used: ring.loadAcquiring16(areas.device.offset + 2))
    }

    /// A device that goes on with what there is; `killed` sees what is left after each ordered store.
    func device(killed: ((Remains) -> Void)? = nil) throws -> SplitDeviceRing<InflightLedger> {
        let recovery = try recover()
        let ledger = killed.map { see in InflightLedger(recovery) { [unowned self] in see(remains) } } ?? InflightLedger(recovery)
        inWork = []
        return try SplitDeviceRing(
            resuming: areas, features: Self.features, unanswered: recovery.heads, used: recovery.used, ledger: ledger)
    }

    func take(_ device: inout SplitDeviceRing<InflightLedger>, _ count: Int) throws {
        var chain = DescriptorChain()
        for _ in 0..<count {
            guard try device.take(into: &chain, from: map) == .chain else { return }
            #expect(driver.out[chain.ticket.id].map(UInt64.init) == chain.writableBytes, "another chain than the driver's")
            inWork.append((chain.ticket, UInt32(chain.writableBytes)))
        }
    }

    func answer(_ device: inout SplitDeviceRing<InflightLedger>, _ count: Int, _ random: inout SplitMix) {
        for _ in 0..<min(count, inWork.count) {
            let one = inWork.remove(at: Int.random(in: inWork.indices, using: &random))
            device.put(one.ticket, written: one.word)
        }
    }

    func run(_ device: inout SplitDeviceRing<InflightLedger>, turns: Int, _ random: inout SplitMix) throws {
        for _ in 0..<turns {
            driver.submit(Int.random(in: 0...4, using: &random), areas)
            try take(&device, Int.random(in: 0...5, using: &random))
            answer(&device, Int.random(in: 0...5, using: &random), &random)
            if Bool.random(using: &random) { _ = device.publish() }
            if Bool.random(using: &random) { driver.reap(areas) }
        }
    }

    /// A successor finishes everything: each chain of the driver's is used once, and the ring goes on working.
    func finish(_ random: inout SplitMix) throws {
        var device = try device()
        let owed = device.publish()
        #expect(owed, "a driver that may sleep is signalled, though nothing is new")
        for round in 0..<2 {
            try take(&device, 64)
            answer(&device, 64, &random)
            _ = device.publish()
            driver.reap(areas)
            #expect(driver.out.isEmpty, "never answered: \(driver.out)")
            if round == 0 { driver.submit(64, areas) }
        }
    }
}

@Suite struct InflightTests {
    @Test("killed after any store: each chain is used exactly once", arguments: [0, 0x7FFE, 0xFFFA] as [UInt16])
    func everyKillPoint(start: UInt16) throws {
        var kills = 0
        for seed in 0..<6 as Range<UInt64> {
            var random = SplitMix(seed)
            let world = try World(start: start)
            var worlds: [Remains] = [world.remains]
            var device = try world.device { worlds.append($0) }
            try world.run(&device, turns: 40, &random)
            kills += worlds.count
            for remains in worlds { try World(remains).finish(&random) }
        }
        #expect(kills > 1000)
    }

    @Test("a successor that is killed, too, and its successor")
    func killedTwice() throws {
        var random = SplitMix(99)
        let world = try World(start: 65530)
        var first: [Remains] = []
        var device = try world.device { first.append($0) }
        try world.run(&device, turns: 40, &random)
        for (number, remains) in first.enumerated() where number % 7 == 0 {
            let second = try World(remains)
            var again: [Remains] = [second.remains]
            var successor = try second.device { again.append($0) }
            try second.run(&successor, turns: 6, &random)
            for left in again { try World(left).finish(&random) }
        }
    }

    /// A device that is killed while it settles what its predecessor left settles the same again.
    @Test func killedWhileSettling() throws {
        var random = SplitMix(5)
        let world = try World(start: 0)
        var worlds: [Remains] = []
        var device = try world.device { worlds.append($0) }
        try world.run(&device, turns: 60, &random)
        var settled = 0
        for remains in worlds {
            let whole = try World(remains)
            let before = whole.remains.ledger
            let heads = try whole.recover().heads
            let after = whole.remains.ledger
            // Each byte that settling changed, alone or with those before it, is a kill.
            let changed = before.indices.filter { before[$0] != after[$0] }
            for count in 0...changed.count {
                var torn = before
                for place in changed.sorted(by: >).prefix(count) { torn[place] = after[place] }
                let half = try World(Remains(ring: remains.ring, ledger: torn, driver: remains.driver))
                // The used index comes last, and whole.
                guard count == changed.count || torn[14...15] == before[14...15] else { continue }
                #expect(try half.recover().heads == heads)
                settled += 1
            }
        }
        #expect(settled > worlds.count)
    }

    /// Memory that was never used must not have its first request settled (a fault that SPDK had).
    @Test func memoryThatWasNeverUsed() throws {
        let world = try World(start: 4711)
        let recovery = try world.recover()
        #expect(recovery.heads == [] && recovery.used == 4711)
        #expect(world.memory.loadRelaxed16(InflightLayout.used) == 4711 && world.memory.loadRelaxed16(InflightLayout.version) == 1)
        #expect(try world.recover().heads == [])
    }

    @Test func foreignMemoryIsRefused() throws {
        func refusal(_ change: (World) -> Void) throws -> VirtqueueError? {
            let world = try World(start: 0)
            var random = SplitMix(1)
            var device = try world.device()
            try world.run(&device, turns: 10, &random)
            _ = device.publish()
            change(world)
            do { _ = try world.device() } catch let error as VirtqueueError { return error }
            return nil
        }
        #expect(try refusal { _ in } == nil)
        #expect(
            try refusal { $0.memory.storeRelaxed16(2, at: InflightLayout.version) }
                == .foreignInflight(version: 2, size: 8, wanted: 8))
        #expect(
            try refusal { $0.memory.storeRelaxed16(16, at: InflightLayout.size) }
                == .foreignInflight(version: 1, size: 16, wanted: 8))
        // The driver writes the used index; the front end the list.
        let used = try refusal { $0.ring.storeRelaxed16($0.driver.available &+ 100, at: $0.areas.device.offset + 2) }
        #expect(used != nil)
        let list = try refusal {
            $0.memory.storeRelaxed16(8, at: InflightLayout.lastHead)
            $0.memory.storeRelaxed16($0.memory.loadRelaxed16(InflightLayout.used) &- 1, at: InflightLayout.used)
        }
        #expect(list == .noSuchDescriptor(8, size: 8))
    }

    /// Oldest first, by the counter; more heads than can be out are refused.
    @Test func theOrderOfWhatIsLeft() throws {
        let world = try World(start: 0)
        var device = try world.device()
        world.driver.submit(8, world.areas)
        try world.take(&device, 8)
        for place in [6, 1, 3] {
            let one = world.inWork.remove(at: place)
            device.put(one.ticket, written: one.word)
        }
        _ = device.publish()
        world.driver.reap(world.areas)
        world.driver.submit(1, world.areas)
        try world.take(&device, 1)
        let heads = try world.recover().heads
        #expect(heads == [0, 2, 3, 5, 7, 1])
        #expect(throws: VirtqueueError.notAdoptable(available: 0, used: 3, size: 8)) {
            _ = try SplitDeviceRing(resuming: world.areas, features: [], unanswered: [1, 0, 0], used: 3, ledger: NoLedger())
        }
        #expect(throws: VirtqueueError.notAdoptable(available: 8, used: 3, size: 8)) {
            _ = try SplitDeviceRing(resuming: world.areas, features: [], unanswered: [1, 8], used: 3, ledger: NoLedger())
        }
    }

    /// What a driver changes in a chain between two lives of its device is looked at anew.
    @Test func aChainThatChangedMeanwhile() throws {
        let world = try World(start: 0)
        var device = try world.device()
        world.driver.submit(2, world.areas)
        try world.take(&device, 2)
        SplitDescriptor(address: 1, byteCount: 1, flags: []).store(world.ring, at: world.areas.descriptors.offset + 16)
        var successor = try world.device()
        try world.take(&successor, 1)
        var chain = DescriptorChain()
        let (found, error) = successor.takeSlowly(&chain, world.map)
        #expect(found == .refused && error == .outsideMemory(address: 1, byteCount: 1, forWriting: false))
    }
}
