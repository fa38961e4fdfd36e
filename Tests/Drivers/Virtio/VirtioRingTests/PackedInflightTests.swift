// A device of a packed ring that is killed at every instruction that matters: as InflightTests, after each ordered
// store the ring's and the ledger's memory are copied, and each copy is a world in which the process died there. In
// every such world a successor must do exactly what is unanswered, and the driver must see each of its chains used
// exactly once.

import SharedMemory
import TestSupport
import Testing
import VirtioWire

@testable import VirtioRing

/// A driver that never hears of its device's death: its private state is a value and is copied with the world.
private struct ModelDriver {
    let size: Int
    var offered: PackedPosition
    var reaped: PackedPosition
    var free: Int
    /// Chains that are out, by their names: what each says, and how many entries it has.
    var out: [UInt16: (words: [UInt32], entries: Int)] = [:]
    var nextWord: UInt32 = 1
    var nextName: UInt16 = 0

    mutating func submit(_ count: Int, _ areas: VirtqueueAreas, _ random: inout SplitMix) {
        for _ in 0..<count {
            let entries = Int.random(in: 1...3, using: &random)
            guard entries <= free else { break }
            while out[nextName] != nil { nextName &+= 7919 }
            var words: [UInt32] = []
            var flagsAt: [(Int, DescriptorFlags)] = []
            for step in 0..<entries {
                // The lengths are what tells a chain from others.
                let place = areas.descriptors.offset + 16 * Int(offered.offset)
                let flags: DescriptorFlags = step + 1 < entries ? [.write, .next] : .write
                PackedDescriptor(address: Rig.data, byteCount: nextWord, id: nextName, flags: flags).storeBody(
                    areas.descriptors.region, at: place)
                flagsAt.append((place, flags.union(offered.wrap ? .available : .used)))
                words.append(nextWord)
                nextWord = nextWord % 0x1000 + 1
                offered.advance(by: 1, size: UInt16(size))
            }
            for (place, flags) in flagsAt.reversed() { PackedDescriptor.storeFlags(flags, areas.descriptors.region, at: place) }
            out[nextName] = (words, entries)
            free -= entries
            nextName &+= 7919
        }
    }

    mutating func reap(_ areas: VirtqueueAreas) {
        while true {
            let place = areas.descriptors.offset + 16 * Int(reaped.offset)
            let flags = PackedDescriptor.loadFlags(areas.descriptors.region, at: place)
            guard flags.contains(.available) == reaped.wrap, flags.contains(.used) == reaped.wrap, !out.isEmpty else { return }
            let one = PackedDescriptor(areas.descriptors.region, at: place, flags: flags)
            guard let chain = out.removeValue(forKey: one.id) else { return #expect(Bool(false), "id \(one.id) is not a head!") }
            #expect(chain.words[0] == one.byteCount, "another chain's answer")
            free += chain.entries
            reaped.advance(by: UInt16(chain.entries), size: UInt16(size))
        }
    }
}

private struct Remains {
    let ring: [UInt8]
    let ledger: [UInt8]
    let driver: ModelDriver
}

private final class World {
    static let size = 8
    static let features: VirtioFeatures = [.version1, .packedRing]
    let ring: SharedRegion
    let memory: SharedRegion
    let areas: VirtqueueAreas
    let map: GuestMap
    let start: PackedPosition
    var driver: ModelDriver
    var inWork: [(ticket: ChainTicket, word: UInt32)] = []

    /// - Parameter start: entries since the beginning of the first round.
    init(start: Int) throws {
        ring = try SharedRegion(anonymous: 4096)
        memory = try SharedRegion(anonymous: SharedRegion.wholePages(PackedInflightLayout.byteCount(Self.size)))
        areas = VirtqueueAreas(in: ring, size: Self.size, features: Self.features)
        map = try GuestMap([.init(address: Rig.data, byteCount: 0x2_0000, region: SharedRegion(anonymous: 0x2_0000))])
        self.start = PackedPosition(
            rawValue: UInt16(start % Self.size) | (start / Self.size % 2 == 0 ? 0x8000 : 0))
        driver = ModelDriver(size: Self.size, offered: self.start, reaped: self.start, free: Self.size)
        for entry in 0..<Self.size where (entry < start % Self.size) == self.start.wrap {
            PackedDescriptor.storeFlags([.available, .used], ring, at: areas.descriptors.offset + 16 * entry)
        }
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

    func recover() throws -> PackedInflightRecovery {
        try PackedInflightRecovery(RingArea(memory, at: 0), ring: areas.descriptors, size: Self.size, startingAt: start)
    }

    func device(killed: ((Remains) -> Void)? = nil) throws -> PackedDeviceRing<PackedInflightLedger> {
        let recovery = try recover()
        let ledger =
            killed.map { see in PackedInflightLedger(recovery) { [unowned self] in see(remains) } }
            ?? PackedInflightLedger(recovery)
        inWork = []
        return try PackedDeviceRing(resuming: areas, features: Self.features, recovery, ledger: ledger)
    }

    func take(_ device: inout PackedDeviceRing<PackedInflightLedger>, _ count: Int) throws {
        var chain = DescriptorChain()
        for _ in 0..<count {
            guard try device.take(into: &chain, from: map) == .chain else { return }
            #expect(driver.out[chain.ticket.id]?.words == chain.runs.map(\.byteCount), "another chain than the driver's")
            #expect(driver.out[chain.ticket.id]?.entries == Int(chain.ticket.entries))
            inWork.append((chain.ticket, chain.runs.first?.byteCount ?? 0))
        }
    }

    func answer(_ device: inout PackedDeviceRing<PackedInflightLedger>, _ count: Int, _ random: inout SplitMix) {
        for _ in 0..<min(count, inWork.count) {
            let one = inWork.remove(at: Int.random(in: inWork.indices, using: &random))
            device.put(one.ticket, written: one.word)
        }
    }

    func run(_ device: inout PackedDeviceRing<PackedInflightLedger>, turns: Int, _ random: inout SplitMix) throws {
        for _ in 0..<turns {
            driver.submit(Int.random(in: 0...4, using: &random), areas, &random)
            try take(&device, Int.random(in: 0...5, using: &random))
            answer(&device, Int.random(in: 0...5, using: &random), &random)
            if Bool.random(using: &random) { _ = device.publish() }
            if Bool.random(using: &random) { driver.reap(areas) }
        }
    }

    /// A successor finishes everything, one by one and in another order: each chain of the driver's is used once, and
    /// the ring goes on working.
    func finish(_ random: inout SplitMix) throws {
        var device = try device()
        let owed = device.publish()
        #expect(owed, "a driver that may sleep is signalled, though nothing is new")
        for round in 0..<3 {
            driver.reap(areas)
            try take(&device, 64)
            while !inWork.isEmpty {
                answer(&device, 1, &random)
                _ = device.publish()
                driver.reap(areas)
            }
            #expect(driver.out.isEmpty, "never answered: \(driver.out)")
            if round < 2 { driver.submit(64, areas, &random) }
        }
        #expect(device.unanswered == 0 && device.fault == nil)
    }
}

@Suite struct PackedInflightTests {
    @Test("killed after any store: each chain is used exactly once", arguments: [0, 5, 8, 15])
    func everyKillPoint(start: Int) throws {
        var kills = 0
        for seed in 0..<6 as Range<UInt64> {
            var random = SplitMix(seed)
            let world = try World(start: start)
            var worlds: [Remains] = []
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
        let world = try World(start: 6)
        var first: [Remains] = []
        var device = try world.device { first.append($0) }
        try world.run(&device, turns: 40, &random)
        for (number, remains) in first.enumerated() where number % 7 == 0 {
            let second = try World(remains)
            var again: [Remains] = [second.remains]
            var successor = try second.device { again.append($0) }
            again.append(second.remains)
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
            let before = whole.remains
            let left = try whole.recover().left.map(\.id)
            let after = whole.remains
            // The entries' flags, the ring's, the heads, the positions: each may have happened, all before it having.
            let flags = (0..<World.size).map { 32 + 32 * $0 }.filter { before.ledger[$0] != after.ledger[$0] }
            for stage in 0...flags.count + 2 {
                var torn = before.ledger
                for place in flags.prefix(stage) { torn[place] = after.ledger[place] }
                if stage > flags.count { torn[12..<16] = after.ledger[12..<16] }
                if stage > flags.count + 1 { torn[16..<24] = after.ledger[16..<24] }
                let ring = stage > flags.count ? after.ring : before.ring
                let half = try World(Remains(ring: ring, ledger: torn, driver: remains.driver))
                #expect(try half.recover().left.map(\.id) == left)
                if stage % 2 == 0 { try half.finish(&random) }
                settled += 1
            }
        }
        #expect(settled > worlds.count)
    }

    @Test func memoryThatWasNeverUsed() throws {
        let world = try World(start: 13)
        let recovery = try world.recover()
        #expect(recovery.left.isEmpty && recovery.used == world.start)
        #expect(world.memory.loadRelaxed16(PackedInflightLayout.version) == 1)
        #expect(world.memory.loadRelaxed16(PackedInflightLayout.size) == 8)
        let second = try World(world.remains)
        #expect(try second.recover().used == world.start)
        #expect(throws: VirtqueueError.notAdoptable(available: 8, used: 8, size: 8)) {
            let other = try SharedRegion(anonymous: 4096)
            _ = try PackedInflightRecovery(
                RingArea(other, at: 0), ring: world.areas.descriptors, size: 8, startingAt: PackedPosition(rawValue: 8))
        }
    }

    /// Whatever the front end writes there, a recovery is refused or is one that a ring can go on with.
    @Test("any memory is refused, or taken over without a trap")
    func foreignMemory() throws {
        var random = SplitMix(11)
        let world = try World(start: 3)
        var device = try world.device()
        try world.run(&device, turns: 15, &random)
        _ = device.publish()
        let good = world.remains
        func refusal(_ change: (World) -> Void) throws -> VirtqueueError? {
            let world = try World(good)
            change(world)
            do { _ = try world.device() } catch let error as VirtqueueError { return error }
            return nil
        }
        #expect(try refusal { $0.memory.storeRelaxed16(2, at: PackedInflightLayout.version) } != nil)
        #expect(try refusal { $0.memory.storeRelaxed16(16, at: PackedInflightLayout.size) } != nil)
        #expect(try refusal { $0.memory.store(UInt64(8 | 8 << 16), at: PackedInflightLayout.positions) } != nil)
        var refused = 0
        for _ in 0..<3000 {
            let other = try World(good)
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let place = Int.random(in: 12..<PackedInflightLayout.byteCount(World.size), using: &random)
                other.memory.store(UInt8.random(in: 0...12, using: &random), at: place)
            }
            do {
                let recovery = try other.recover()
                var device = try PackedDeviceRing(
                    resuming: other.areas, features: World.features, recovery, ledger: PackedInflightLedger(recovery))
                var chain = DescriptorChain()
                var taken: [ChainTicket] = []
                while (try? device.take(into: &chain, from: other.map)) == .chain { taken.append(chain.ticket) }
                for ticket in taken { device.put(ticket, written: 0) }
                _ = device.publish()
            } catch is VirtqueueError { refused += 1 }
        }
        #expect(refused > 100)
    }
}
