// A backend that is killed at every instruction that matters. The backend's ordered stores are few and each is one
// word; after each of them the ring's and the journal's memory are copied, and each copy is a world in which the
// process died there. In every such world a successor must do exactly what is unanswered, and the frontend must see
// exactly one response to each request.

@testable import BlockBackend
import BlockProtocol
import DriverRuntime
import SharedMemory
import SharedRing
import Testing
import TestSupport
import XenTypes

/// A frontend that never hears of its backend's death: its private state is a value and is copied with the world.
private struct ModelFrontend {
    var produced: RingIndex
    var consumed: RingIndex
    var outstanding: Set<UInt64> = []
    var nextID: UInt64 = 1
    let layout = BlockABI.x86_64.layout

    /// Publishes up to `count` requests, as many as there is room for.
    mutating func submit(_ count: Int, _ ring: SharedRegion, _ geometry: RingGeometry) {
        for _ in 0..<count where outstanding.count < Int(geometry.slotCount) {
            layout.storeRequest(BlockRequest(.write, id: nextID, sector: nextID * 8), ring, geometry.offset(produced))
            outstanding.insert(nextID)
            nextID += 1
            produced.advance()
        }
        ring.storeReleasing(produced.rawValue, at: RingHeader.requestProduced)
    }

    /// Takes every response there is.
    mutating func consume(_ ring: SharedRegion, _ geometry: RingGeometry) {
        let shown = RingIndex(ring.loadAcquiring(RingHeader.responseProduced))
        while consumed != shown {
            let response = layout.loadResponse(ring, geometry.offset(consumed))
            #expect(outstanding.remove(response.id) != nil, "a response to \(response.id), which is not in flight")
            consumed.advance()
        }
    }
}

/// A backend's end with its requests in work: what dies.
private struct ModelBackend: ~Copyable {
    var ring: JournaledRing
    var inWork: [(ticket: Int32, request: BlockRequest)] = []

    mutating func take(_ count: Int) throws {
        for _ in 0..<count {
            var request = BlockRequest()
            var ticket = JournaledRing.noTicket
            guard try ring.nextRequest(into: &request, ticket: &ticket) else { return }
            #expect(ticket >= 0)
            #expect(request.sector == request.id * 8, "another request than the frontend's")
            inWork.append((ticket, request))
        }
    }

    mutating func answer(_ count: Int, _ generator: inout some RandomNumberGenerator) {
        for _ in 0..<min(count, inWork.count) {
            let one = inWork.remove(at: Int.random(in: inWork.indices, using: &generator))
            ring.push(BlockResponse(to: one.request, status: .okay), ticket: one.ticket)
        }
    }
}

/// What a kill leaves.
private struct Remains {
    let ring: [UInt8]
    let journal: [UInt8]
    let frontend: ModelFrontend
}

private final class World {
    let ring: SharedRegion
    let journal: SharedRegion
    let geometry: RingGeometry
    var frontend: ModelFrontend
    static let identity = RingIdentity(abi: .x86_64, keys: .init(references: [GrantReference(8)], port: EventPort(3)))

    init(start: RingIndex) throws {
        ring = try SharedRegion(anonymous: SharedRegion.pageSize)
        geometry = RingGeometry(byteCount: ring.byteCount, slotSize: 112)
        journal = try SharedRegion(anonymous: RingJournal.Layout.byteCount(slots: geometry.slotCount))
        frontend = ModelFrontend(produced: start, consumed: start)
        for place in [RingHeader.requestProduced, RingHeader.responseProduced] {
            ring.storeRelaxed(start.rawValue, at: place)
        }
        RingJournal.begin(in: journal, identity: Self.identity, slots: geometry.slotCount, startingAt: start)
    }

    init(_ remains: Remains) throws {
        ring = try SharedRegion(anonymous: remains.ring.count)
        ring.write(remains.ring, at: 0)
        geometry = RingGeometry(byteCount: ring.byteCount, slotSize: 112)
        journal = try SharedRegion(anonymous: remains.journal.count)
        journal.write(remains.journal, at: 0)
        frontend = remains.frontend
    }

    var remains: Remains {
        Remains(
            ring: ring.bytes(at: 0, count: ring.byteCount), journal: journal.bytes(at: 0, count: journal.byteCount),
            frontend: frontend)
    }

    func recover() throws -> RingRecovery {
        try RingRecovery(
            journal: journal, identity: Self.identity, slots: geometry.slotCount,
            responseProduced: ring.loadAcquiring(RingHeader.responseProduced))
    }

    func successor() throws -> ModelBackend {
        ModelBackend(ring: try JournaledRing(resuming: ring, .x86_64, journal: journal, try recover()))
    }

    /// Some turns of both sides; `killed` sees what is left after each ordered store.
    func run(
        _ backend: inout ModelBackend, turns: Int, _ generator: inout SplitMix, killed: @escaping (Remains) -> Void
    ) throws {
        backend.ring.observer = { [unowned self] in killed(self.remains) }
        for _ in 0..<turns {
            frontend.submit(Int.random(in: 0...9, using: &generator), ring, geometry)
            try backend.take(Int.random(in: 0...12, using: &generator))
            backend.answer(Int.random(in: 0...10, using: &generator), &generator)
            if Bool.random(using: &generator) { _ = backend.ring.publish() }
            if Bool.random(using: &generator) { frontend.consume(ring, geometry) }
        }
    }

    /// A successor finishes everything: each request of the frontend's is answered once.
    func finish(_ generator: inout SplitMix) throws {
        var backend = try successor()
        var rounds = 0
        repeat {
            try backend.take(64)
            backend.answer(64, &generator)
            _ = backend.ring.publish()
            frontend.consume(ring, geometry)
            rounds += 1
        } while !frontend.outstanding.isEmpty && rounds < 4
        #expect(frontend.outstanding.isEmpty, "never answered: \(frontend.outstanding.sorted())")
        // And the ring goes on working.
        frontend.submit(40, ring, geometry)
        try backend.take(64)
        backend.answer(64, &generator)
        _ = backend.ring.publish()
        frontend.consume(ring, geometry)
        #expect(frontend.outstanding.isEmpty)
    }
}

@Suite("Ring journal") struct RingJournalTests {
    @Test(
        "killed after any store: each request is answered exactly once",
        arguments: [0, 0x7FFF_FFF0, 0xFFFF_FFE8] as [UInt32])
    func everyKillPoint(start: UInt32) throws {
        var kills = 0
        for seed in 0..<6 as Range<UInt64> {
            var generator = SplitMix(seed)
            let world = try World(start: RingIndex(start))
            var backend = ModelBackend(
                ring: JournaledRing(
                    attaching: world.ring, .x86_64, journal: world.journal, startingAt: RingIndex(start)))
            var worlds: [Remains] = [world.remains]
            try world.run(&backend, turns: 40, &generator) { worlds.append($0) }
            kills += worlds.count
            for remains in worlds { try World(remains).finish(&generator) }
        }
        #expect(kills > 1000)
    }

    @Test("a successor that is killed, too, and its successor")
    func killedTwice() throws {
        var generator = SplitMix(99)
        let world = try World(start: RingIndex(0))
        var backend = ModelBackend(ring: JournaledRing(attaching: world.ring, .x86_64, journal: world.journal))
        var first: [Remains] = []
        try world.run(&backend, turns: 30, &generator) { first.append($0) }
        for (number, remains) in first.enumerated() where number % 7 == 0 {
            let second = try World(remains)
            var successor = try second.successor()
            var again: [Remains] = [second.remains]
            try second.run(&successor, turns: 6, &generator) { again.append($0) }
            for left in again { try World(left).finish(&generator) }
        }
    }

    /// A world with three requests taken and one of them answered and shown.
    private func middle() throws -> World {
        let world = try World(start: RingIndex(0))
        var generator = SplitMix(1)
        var backend = ModelBackend(ring: JournaledRing(attaching: world.ring, .x86_64, journal: world.journal))
        world.frontend.submit(4, world.ring, world.geometry)
        try backend.take(3)
        backend.answer(1, &generator)
        _ = backend.ring.publish()
        return world
    }

    @Test("what is left comes oldest first, the requests as they were")
    func order() throws {
        let recovery = try middle().recover()
        #expect(recovery.unanswered.count == 2)
        #expect(recovery.consumed == RingIndex(3) && recovery.published == RingIndex(1))
        #expect(recovery.unanswered[0].index.rawValue < recovery.unanswered[1].index.rawValue)
        #expect(recovery.unanswered.allSatisfy { $0.request.id == UInt64($0.index.rawValue) + 1 })
    }

    @Test("a frontend that wrote into rsp_prod, another ring, a torn file: refused")
    func refusals() throws {
        let world = try middle()
        world.ring.storeRelaxed(2, at: RingHeader.responseProduced)
        #expect(throws: RecoveryError.indices("the ring's rsp_prod is 2, where the backend left 1 or 1")) { try world.recover() }

        let other = try middle()
        other.journal.storeRelaxed(9, at: RingJournal.Layout.references)
        #expect(throws: RecoveryError.anotherRing) { try other.recover() }

        let torn = try middle()
        torn.journal.storeRelaxed(0, at: RingJournal.Layout.magic)
        #expect(throws: RecoveryError.noJournal) { try torn.recover() }

        let damaged = try middle()
        damaged.journal.storeRelaxed(9, at: RingJournal.Layout.consumed)
        #expect(throws: RecoveryError.indices("the journal has 2 unanswered requests, the indices 8")) { try damaged.recover() }
    }

    @Test("a frontend that took its requests back is refused, not obeyed")
    func fewerRequests() throws {
        let world = try middle()
        world.ring.storeRelaxed(2, at: RingHeader.requestProduced)
        #expect(throws: RingError.self) { _ = try world.successor() }
    }
}
