// What is done when a mapping or a run ends, and virtual interrupts (attacks.md GT34 to GT36, EV17, EV18).

import HypervisorRules
import Testing
import XenTypes

/// A byte that says what had happened by the time it was cleared.
private final class WitnessedByte: EndByte {
    private(set) var clears = 0
    private let witness: () -> Void
    init(_ witness: @escaping () -> Void = {}) { self.witness = witness }
    func clear() {
        clears += 1
        witness()
    }
}

@Suite struct EndNoticeTests {
    let world: TwoDomains
    let mapping: Mapping
    /// The mapper's end of a channel, and the granter's.
    let port: NewPort
    let peer: NewPort

    init() throws {
        world = try TwoDomains()
        world.grant(8)
        mapping = try world.core.map(GrantReference(8), of: DomainID(1), access: .readWrite, by: world.mapper)
        port = try world.core.allocatePort(for: DomainID(1), by: world.mapper)
        peer = try world.core.bindPort(remote: .zero, port: port.port, by: world.granter)
        _ = world.core.takeEffects()
    }

    private var rung: [PortID] {
        world.core.takeEffects().compactMap { if case .rungAtEnd(let port) = $0 { port } else { nil } }
    }

    private func unmap() throws {
        try world.core.unmap(mapping.handle, GrantReference(8), of: DomainID(1), by: world.mapper)
    }

    @Test func GT34_anUnmapClearsTheByteWhileThePageIsHeldAndThenRings() throws {
        let (core, table) = (world.core, world.table)
        let byte = WitnessedByte { #expect(table.header(8).flags.contains(.inUse), "the page may be another's already") }
        try core.noticeEnd(ofMapping: mapping.handle, byte: byte, port: port.port, by: world.mapper)
        #expect(byte.clears == 0)
        try unmap()
        #expect(byte.clears == 1 && rung == [peer.id])
        #expect(!table.header(8).flags.contains(.reading))
        core.close(world.mapper)
        while core.reap() {}
        #expect(byte.clears == 1)
    }

    @Test func GT34_aDeathClearsEveryByteBeforeAnyPortIsGone() throws {
        let core = world.core
        let run = try core.makeRun(pages: 1, to: DomainID(1), access: .readWrite, by: world.mapper)
        let bytes = [WitnessedByte(), WitnessedByte()]
        try core.noticeEnd(ofMapping: mapping.handle, byte: bytes[0], port: port.port, by: world.mapper)
        try core.noticeEnd(ofRun: run.id, byte: bytes[1], port: port.port, by: world.mapper)
        core.close(world.mapper)
        while core.reap(budget: 1) {}
        #expect(bytes.map(\.clears) == [1, 1])
        let effects = core.takeEffects()
        let lastRing = try #require(effects.lastIndex { $0 == .rungAtEnd(peer.id) })
        let closed = try #require(effects.firstIndex { $0 == .peerClosed(peer.id) })
        let released = try #require(effects.firstIndex { if case .runReleased(run.id, _, _) = $0 { true } else { false } })
        #expect(effects.count { $0 == .rungAtEnd(peer.id) } == 2)
        #expect(lastRing < closed && lastRing < released)
        #expect(core.usage.mappings == 0 && core.usage.ports == 1)
    }

    @Test func GT34_aSecondNoticeTakesTheFirstsPlace_andNoneTakesItAway() throws {
        let (first, second) = (WitnessedByte(), WitnessedByte())
        try world.core.noticeEnd(ofMapping: mapping.handle, byte: first, port: port.port, by: world.mapper)
        try world.core.noticeEnd(ofMapping: mapping.handle, byte: second, port: nil, by: world.mapper)
        try unmap()
        #expect(first.clears == 0 && second.clears == 1 && rung.isEmpty)
        let run = try world.core.makeRun(pages: 1, to: DomainID(1), access: .readWrite, by: world.mapper)
        try world.core.noticeEnd(ofRun: run.id, byte: first, port: port.port, by: world.mapper)
        try world.core.noticeEnd(ofRun: run.id, byte: nil, port: nil, by: world.mapper)
        #expect(try world.core.retireRun(run.id, by: world.mapper))
        #expect(first.clears == 0 && rung.isEmpty)
    }

    @Test func GT34_aPortThatWasClosedStillTellsThePeerThatItHad() throws {
        let byte = WitnessedByte()
        try world.core.noticeEnd(ofMapping: mapping.handle, byte: byte, port: port.port, by: world.mapper)
        try world.core.closePort(port.port, by: world.mapper)
        _ = world.core.takeEffects()
        try unmap()
        #expect(byte.clears == 1 && rung == [peer.id])
        // A peer that is gone as well is not rung, and neither is whoever has its number now.
        world.grant(9)
        let other = try world.core.map(GrantReference(9), of: DomainID(1), access: .readWrite, by: world.mapper)
        let again = try world.core.allocatePort(for: DomainID(1), by: world.mapper)
        let theirs = try world.core.bindPort(remote: .zero, port: again.port, by: world.granter)
        try world.core.noticeEnd(ofMapping: other.handle, byte: nil, port: again.port, by: world.mapper)
        try world.core.closePort(again.port, by: world.mapper)
        try world.core.closePort(theirs.port, by: world.granter)
        _ = world.core.takeEffects()
        try world.core.unmap(other.handle, GrantReference(9), of: DomainID(1), by: world.mapper)
        #expect(rung.isEmpty)
    }

    @Test func GT35_onlyOnesOwnMappingsRunsAndPortsAndOnlyWhatMayBeWritten() throws {
        let core = world.core
        let byte = WitnessedByte()
        func notice(
            _ handle: UInt32, _ byte: WitnessedByte?, _ number: EventPort?, by connection: ConnectionID
        ) -> CoreError? {
            do throws(CoreError) { try core.noticeEnd(ofMapping: handle, byte: byte, port: number, by: connection) } catch {
                return error
            }
            return nil
        }
        let sibling = try core.connect(.zero)
        #expect(notice(mapping.handle, byte, nil, by: world.granter) == .noSuchMapping)
        #expect(notice(mapping.handle, byte, nil, by: sibling) == .noSuchMapping)
        #expect(notice(mapping.handle &+ 1, byte, nil, by: world.mapper) == .noSuchMapping)
        #expect(notice(mapping.handle, byte, EventPort(99), by: world.mapper) == .port(EventPort(99), "EINVAL"))
        let theirs = try core.allocatePort(for: DomainID(1), by: sibling)
        #expect(notice(mapping.handle, byte, theirs.port, by: world.mapper) == .port(theirs.port, "EINVAL"))
        world.grant(10)
        let readOnly = try core.map(GrantReference(10), of: DomainID(1), access: .readOnly, by: world.mapper)
        #expect(notice(readOnly.handle, byte, nil, by: world.mapper) == .notWritable)
        #expect(notice(readOnly.handle, nil, port.port, by: world.mapper) == nil)
        #expect(throws: CoreError.noSuchRun(world.run.id)) {
            try core.noticeEnd(ofRun: world.run.id, byte: byte, port: nil, by: world.mapper)
        }
        core.close(world.mapper)
        #expect(notice(mapping.handle, byte, nil, by: world.mapper) == .noSuchConnection)
        while core.reap() {}
        #expect(byte.clears == 0, "what was refused is not done")
    }

    @Test func GT36_framesWithoutGrantsAreForDomainZeroAlone() throws {
        let core = world.core
        let frame = world.run.firstFrame
        func status(_ number: UInt32, of domain: UInt16, _ access: GrantAccess = .readWrite, by id: ConnectionID) -> GrantStatus {
            Result { () throws(GrantStatus) in
                try core.mapForeign(number, of: DomainID(domain), access: access, by: id)
            }.status
        }
        _ = try core.createDomain(DomainID(2))
        let two = try core.connect(DomainID(2))
        #expect(status(frame, of: 1, by: two) == .permissionDenied)
        #expect(status(frame, of: 1, by: world.granter) == .permissionDenied)
        #expect(status(frame, of: 0, by: world.mapper) == .badDomain)
        #expect(status(frame, of: 3, by: world.mapper) == .badDomain)
        #expect(status(frame + 8, of: 1, by: world.mapper) == .badPage)
        #expect(status(UInt32.max, of: 1, by: world.mapper) == .badPage)
        let sealed = try core.makeRun(pages: 1, to: DomainID(2), access: .readOnly, by: world.granter)
        #expect(status(sealed.firstFrame, of: 1, .readOnly, by: world.mapper) == .badPage, "not armed yet")
        try core.armRun(sealed.id, by: world.granter)
        #expect(status(sealed.firstFrame, of: 1, by: world.mapper) == .permissionDenied)
        #expect(core.usage.mappings == 1, "refused, and nothing kept")

        // A run made for another domain: no grant and no peer are asked for, and the page outlives its owner's wish.
        let foreign = try core.mapForeign(sealed.firstFrame, of: DomainID(1), access: .readOnly, by: world.mapper)
        #expect(foreign.run == sealed.id && foreign.page == 0)
        #expect(try !core.retireRun(sealed.id, by: world.granter))
        #expect(throws: GrantStatus.badHandle) {
            try core.unmap(foreign.handle, GrantReference(8), of: DomainID(1), by: world.mapper)
        }
        _ = core.takeEffects()
        try core.unmap(foreign.handle, GrantReference(sealed.firstFrame), of: DomainID(1), by: world.mapper)
        #expect(core.takeEffects() == [.runReleased(sealed.id, owner: world.granter, deferred: true)])
    }

    @Test func GT36_theDeathOfEitherLeavesNothingOfAForeignMapping() throws {
        let core = world.core
        for killsMapper in [true, false] {
            let run = try core.makeRun(pages: 2, to: .zero, access: .readWrite, by: world.granter)
            let mapper = try core.connect(.zero)
            _ = try core.mapForeign(run.firstFrame + 1, of: DomainID(1), access: .readWrite, by: mapper)
            if killsMapper {
                core.close(mapper)
                while core.reap() {}
                #expect(try core.retireRun(run.id, by: world.granter))
            } else {
                try core.destroyDomain(DomainID(1))
                while core.reap() {}
                #expect(core.run(run.id) != nil, "still looked at")
                core.close(mapper)
                while core.reap() {}
                #expect(core.run(run.id) == nil)
            }
        }
        try unmap()
        #expect(core.usage.mappings == 0 && core.usage.runs == 0 && core.usage.deferred == 0)
    }

    @Test func EV17_oneHolderForEachVirtualInterruptAndOnlyThoseThatThereAre() throws {
        let core = world.core
        let held = try core.bindVirtual(.domainException, by: world.mapper)
        #expect(throws: CoreError.virqTaken(3)) { _ = try core.bindVirtual(.domainException, by: core.connect(.zero)) }
        for number: UInt32 in [24, 25, .max] {
            #expect(throws: CoreError.port(EventPort(0), "EINVAL")) {
                _ = try core.bindVirtual(VirtualInterrupt(number), by: world.mapper)
            }
        }
        // Nobody binds to it, and its owner's ring goes nowhere.
        #expect(throws: CoreError.port(held.port, "EINVAL")) {
            _ = try core.bindPort(remote: .zero, port: held.port, by: world.granter)
        }
        try core.notify(held.port, by: world.mapper)
        #expect(rung.isEmpty)
        #expect(core.status(of: held.port, in: .zero) == .virtual(3))
        try core.closePort(held.port, by: world.mapper)
        _ = try core.bindVirtual(.domainException, by: world.mapper)
        core.close(world.mapper)
        while core.reap() {}
        _ = try core.bindVirtual(.domainException, by: core.connect(.zero))
    }

    @Test func EV18_theEndOfADomainRingsDomainZerosHolderAndNobodyElses() throws {
        let core = world.core
        let zero = try core.bindVirtual(.domainException, by: world.mapper)
        _ = try core.createDomain(DomainID(2))
        _ = try core.bindVirtual(.domainException, by: core.connect(DomainID(2)))
        try core.destroyDomain(DomainID(1))
        #expect(rung == [zero.id])
        try core.destroyDomain(DomainID(2))
        #expect(rung == [zero.id])
    }

    @Test func portsAreListedUntilTheLastThereCanBe() throws {
        let core = world.core
        #expect(core.status(of: port.port, in: .zero) == .interdomain(DomainID(1), peer.port))
        #expect(core.status(of: peer.port, in: DomainID(1)) == .interdomain(.zero, port.port))
        let waiting = try core.allocatePort(for: DomainID(5), by: world.mapper)
        #expect(core.status(of: waiting.port, in: .zero) == .unbound(DomainID(5)))
        #expect(core.status(of: EventPort(0), in: .zero) == .closed)
        #expect(core.status(of: EventPort(UInt32(core.limits.ports)), in: .zero) == .closed)
        #expect(core.status(of: EventPort(UInt32(core.limits.ports) + 1), in: .zero) == nil)
        #expect(core.status(of: EventPort(1), in: DomainID(9)) == nil)
    }
}
