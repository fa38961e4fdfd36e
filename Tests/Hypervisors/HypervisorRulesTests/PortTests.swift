// Section F of the attack list: event channels, row by row.

import Hypervisor
import HypervisorRules
import Testing
import XenTypes

@Suite struct PortTests {
    let core: HypervisorCore
    let zero: ConnectionID
    let one: ConnectionID
    let two: ConnectionID

    init() throws {
        var limits = HypervisorLimits()
        limits.ports = 16
        core = HypervisorCore(limits: limits)
        for number in UInt16(0)...2 { _ = try core.createDomain(DomainID(number)) }
        zero = try core.connect(.zero)
        one = try core.connect(DomainID(1))
        two = try core.connect(DomainID(2))
    }

    private func rings() -> [PortID] { core.takeEffects().compactMap { if case .ring(let port) = $0 { port } else { nil } } }

    @Test func EV3_portsThatAreNotOnesOwnAreInvalidForEveryOperation() throws {
        let live = try core.allocatePort(for: .zero, by: one)
        let closed = try core.allocatePort(for: .zero, by: one)
        try core.closePort(closed.port, by: one)
        for number: UInt32 in [0, closed.port.rawValue, 16, 17, 4096, 1 << 31, UInt32.max] {
            let port = EventPort(number)
            let invalid = CoreError.port(port, "EINVAL")
            #expect(throws: invalid) { try core.notify(port, by: one) }
            #expect(throws: invalid) { try core.mask(port, by: one) }
            #expect(throws: invalid) { try core.unmask(port, by: one) }
            #expect(throws: invalid) { _ = try core.takePending(port, by: one) }
            #expect(throws: invalid) { try core.closePort(port, by: one) }
            #expect(throws: invalid) { _ = try core.bindPort(remote: DomainID(1), port: port, by: zero) }
        }
        // attacks.md EV13: another's by number.
        #expect(throws: CoreError.port(live.port, "EINVAL")) { try core.closePort(live.port, by: zero) }
        let sibling = try core.connect(DomainID(1))
        #expect(throws: CoreError.port(live.port, "EINVAL")) { try core.notify(live.port, by: sibling) }
        #expect(core.usage.ports == 1)
    }

    @Test func EV10_EV14_whenPortsRunOutNothingElseChanges() throws {
        let offer = try core.allocatePort(for: DomainID(1), by: zero)
        for _ in 0..<16 { _ = try core.allocatePort(for: .zero, by: one) }
        _ = core.takeEffects()
        let before = core.usage
        #expect(throws: CoreError.limit("event channels", 16)) { _ = try core.allocatePort(for: .zero, by: one) }
        #expect(throws: CoreError.limit("event channels", 16)) {
            _ = try core.bindPort(remote: .zero, port: offer.port, by: one)
        }
        #expect(core.usage == before && core.takeEffects().isEmpty)
        #expect(core.peer(of: offer.id) == nil)
        // Others go on.
        let theirs = try core.allocatePort(for: DomainID(2), by: zero)
        let bound = try core.bindPort(remote: .zero, port: theirs.port, by: two)
        try core.notify(bound.port, by: two)
        #expect(rings().contains(theirs.id))
        core.close(one)
        while core.reap() {}
        #expect(core.usage.ports == 3)
    }

    @Test func EV12_onlyTheInvitedMayBindAndOnlyOnce() throws {
        let port = try core.allocatePort(for: .zero, by: one).port
        #expect(throws: CoreError.port(port, "EINVAL")) { _ = try core.bindPort(remote: DomainID(1), port: port, by: two) }
        #expect(throws: CoreError.port(port, "EINVAL")) { _ = try core.bindPort(remote: DomainID(1), port: port, by: one) }
        _ = try core.bindPort(remote: DomainID(1), port: port, by: zero)
        #expect(throws: CoreError.port(port, "EINVAL")) { _ = try core.bindPort(remote: DomainID(1), port: port, by: zero) }
        try core.destroyDomain(DomainID(1))
        #expect(throws: CoreError.noSuchDomain(DomainID(1))) { _ = try core.bindPort(remote: DomainID(1), port: port, by: zero) }
    }

    @Test func EV15_eventsCoalesceWaitWhileMaskedAndAreNotLost() throws {
        let mine = try core.allocatePort(for: .zero, by: one)
        let theirs = try core.bindPort(remote: DomainID(1), port: mine.port, by: zero)
        #expect(rings() == [theirs.id])
        #expect(try core.takePending(theirs.port, by: zero))
        for _ in 0..<5 { try core.notify(mine.port, by: one) }
        #expect(rings() == [theirs.id])
        try core.mask(theirs.port, by: zero)
        #expect(try core.takePending(theirs.port, by: zero))
        try core.notify(mine.port, by: one)
        #expect(rings() == [])
        try core.unmask(theirs.port, by: zero)
        #expect(rings() == [theirs.id])
    }

    @Test func EV16_closingOneEndLeavesTheOtherWaitingForThatDomain() throws {
        let mine = try core.allocatePort(for: .zero, by: one)
        let theirs = try core.bindPort(remote: DomainID(1), port: mine.port, by: zero)
        _ = core.takeEffects()
        core.close(zero)
        while core.reap() {}
        #expect(core.takeEffects().prefix(3) == [.peerClosed(mine.id), .ring(mine.id), .portClosed(theirs.id)])
        #expect(throws: CoreError.port(mine.port, "EINVAL")) {
            _ = try core.bindPort(remote: DomainID(1), port: mine.port, by: two)
        }
        // Nobody there: dropped, as Xen does.
        try core.notify(mine.port, by: one)
        let again = try core.bindPort(remote: DomainID(1), port: mine.port, by: try core.connect(.zero))
        #expect(core.peer(of: again.id) == mine.id)
    }

    @Test func aPortsNumberIsNotAnothersSoonAfter() throws {
        var seen: [UInt32] = []
        for _ in 0..<16 {
            let port = try core.allocatePort(for: .zero, by: one)
            seen.append(port.port.rawValue)
            try core.closePort(port.port, by: one)
        }
        #expect(Set(seen).count == 16 && seen.allSatisfy { (1...16).contains($0) })
    }

    @Test func D1_aPortThatRingsForNothingWaitsLongerAndLonger() {
        var throttle = LateEOI()
        let delays = (0..<14).map { _ in throttle.handled(foundWork: false) }
        #expect(delays == [0, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000, 1000, 1000, 1000].map { $0 * 1000 })
        #expect(throttle.handled(foundWork: true) == 0)
        #expect(throttle.handled(foundWork: false) == 0)
        #expect(throttle.handled(foundWork: false) == 4000)
        for _ in 0..<1000 { #expect(throttle.handled(foundWork: false) <= LateEOI.longestDelay) }
        #expect(throttle.useful == 1)
    }
}
