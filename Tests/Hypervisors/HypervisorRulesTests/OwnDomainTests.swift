// Grants and channels within one domain, which Xen allows: granter and mapper, and both ends, are one set of counters.

import HypervisorRules
import Testing
import XenTypes

/// Two processes of domain 1, or one twice: the first offers and allocates, the second maps and binds.
private struct OneDomain {
    let core = HypervisorCore()
    let table = ScriptedFrame()
    let granter: ConnectionID
    let mapper: ConnectionID
    let run: NewRun
    let domain = DomainID(1)

    init(oneProcess: Bool) throws {
        for number in UInt16(0)...1 { _ = try core.createDomain(DomainID(number)) }
        granter = try core.connect(domain)
        mapper = oneProcess ? granter : try core.connect(domain)
        _ = try core.addTableFrame(table, by: granter)
        run = try core.makeRun(pages: 2, to: domain, access: .readWrite, by: granter)
        try core.armRun(run.id, by: granter)
        for page in 0..<2 { table.grant(8 + page, .permitAccess, to: 1, frame: run.firstFrame + UInt32(page)) }
    }

    func map(_ reference: UInt32, _ access: GrantAccess) throws -> Mapping {
        try core.map(GrantReference(reference), of: domain, access: access, by: mapper)
    }

    func unmap(_ mapping: Mapping, _ reference: UInt32) throws {
        try core.unmap(mapping.handle, GrantReference(reference), of: domain, by: mapper)
    }

    func isInUse(_ slot: Int) -> Bool { !table.header(slot).flags.isDisjoint(with: .inUse) }
}

@Suite struct OwnDomainTests {
    @Test(arguments: [true, false]) func GT37_aDomainsGrantsToItselfAreCountedAsBetweenTwo(oneProcess: Bool) throws {
        let one = try OneDomain(oneProcess: oneProcess)
        let reading = try one.map(8, .readOnly), writing = try one.map(8, .readWrite), other = try one.map(9, .readWrite)
        #expect(Set([reading, writing, other].map(\.handle)).count == 3)
        #expect(one.core.usage.mappings == 3 && one.core.usage.grants == 2 && one.core.usage.runs == 1)
        #expect(one.core.usage(of: DomainID(1))?.mappings == 3 && one.core.usage(of: .zero)?.mappings == 0)
        try one.unmap(writing, 8)
        #expect(one.table.header(8).flags.intersection(.inUse) == .reading)
        // Another page's handle, and the granter's number for another's.
        #expect(throws: GrantStatus.badHandle) { try one.unmap(other, 8) }
        #expect(throws: GrantStatus.badHandle) {
            try one.core.unmap(reading.handle, GrantReference(8), of: .zero, by: one.mapper)
        }
        #expect(try !one.core.retireRun(one.run.id, by: one.granter))
        #expect(throws: GrantStatus.badPage) { _ = try one.map(8, .readOnly) }
        try one.unmap(reading, 8)
        #expect(one.core.usage.deferred == 1 && one.core.usage.runs == 1)
        try one.unmap(other, 9)
        #expect(one.core.usage.deferred == 0 && one.core.usage.runs == 0 && one.core.usage.mappings == 0)
        #expect(!one.isInUse(8) && !one.isInUse(9))
        #expect(one.core.takeEffects() == [.runReleased(one.run.id, owner: one.granter, deferred: true)])
    }

    @Test func GT37_whatIsGrantedToOthersIsNotForTheGranter() throws {
        let one = try OneDomain(oneProcess: true)
        // In the entry only, and in the run only.
        let foreign = try one.core.makeRun(pages: 1, to: .zero, access: .readWrite, by: one.granter)
        try one.core.armRun(foreign.id, by: one.granter)
        one.table.grant(10, .permitAccess, to: 1, frame: foreign.firstFrame)
        #expect(throws: GrantStatus.permissionDenied) { _ = try one.map(10, .readOnly) }
        one.table.grant(11, .permitAccess, to: 0, frame: one.run.firstFrame)
        #expect(throws: GrantStatus.generalError) { _ = try one.map(11, .readOnly) }
        #expect(one.core.usage.mappings == 0 && !one.isInUse(10) && !one.isInUse(11))
    }

    @Test(arguments: [true, false]) func EV19_aDomainRingsItself(oneProcess: Bool) throws {
        let one = try OneDomain(oneProcess: oneProcess)
        let waiting = try one.core.allocatePort(for: one.domain, by: one.granter)
        let bound = try one.core.bindPort(remote: one.domain, port: waiting.port, by: one.mapper)
        #expect(waiting.port != bound.port && bound.peer == waiting.id)
        #expect(one.core.peer(of: waiting.id) == bound.id)
        // A port that has a peer, be it of one's own, takes no other; nor does it bind to itself.
        for port in [waiting.port, bound.port] {
            #expect(throws: CoreError.port(port, "EINVAL")) {
                _ = try one.core.bindPort(remote: one.domain, port: port, by: one.mapper)
            }
        }
        #expect(one.core.takeEffects() == [.ring(bound.id)])
        try one.core.notify(bound.port, by: one.mapper)
        #expect(one.core.takeEffects() == [.ring(waiting.id)])
        try one.core.closePort(waiting.port, by: one.granter)
        #expect(one.core.peer(of: bound.id) == nil && one.core.usage.ports == 1)
        try one.core.closePort(bound.port, by: one.mapper)
        #expect(one.core.usage.ports == 0 && one.core.usage(of: one.domain)?.ports == 0)
    }

    /// In every order of what can end, and with the rest ended by the process's death, by slices of any size.
    @Test(arguments: [true, false], 1...6) func GT37_whateverEndsFirstEachEndsOnceAndNothingIsLeft(oneProcess: Bool, budget: Int)
        throws
    {
        let steps = ["unmap", "retire", "close", "close peer", "granter", "mapper"]
        for order in permutations(steps) {
            let one = try OneDomain(oneProcess: oneProcess)
            let waiting = try one.core.allocatePort(for: one.domain, by: one.granter)
            let bound = try one.core.bindPort(remote: one.domain, port: waiting.port, by: one.mapper)
            let mapping = try one.map(8, .readWrite)
            try one.core.noticeEnd(ofMapping: mapping.handle, byte: nil, port: bound.port, by: one.mapper)
            try one.core.noticeEnd(ofRun: one.run.id, byte: nil, port: waiting.port, by: one.granter)
            _ = one.core.takeEffects()
            var effects: [CoreEffect] = []
            for step in order {
                switch step {
                case "unmap": try? one.unmap(mapping, 8)
                case "retire": _ = try? one.core.retireRun(one.run.id, by: one.granter)
                case "close": try? one.core.closePort(bound.port, by: one.mapper)
                case "close peer": try? one.core.closePort(waiting.port, by: one.granter)
                case "granter": one.core.close(one.granter)
                default: one.core.close(one.mapper)
                }
                while one.core.reap(budget: budget) {}
                effects += one.core.takeEffects()
            }
            let usage = one.core.usage
            #expect(
                usage.mappings + usage.ports + usage.runs + usage.pages + usage.deferred + usage.dying + usage.connections == 0,
                "\(order): \(usage)")
            #expect(effects.count { if case .runReleased = $0 { true } else { false } } == 1, "\(order): \(effects)")
            for port in [waiting.id, bound.id] { #expect(effects.count { $0 == .portClosed(port) } == 1, "\(order): \(effects)") }
            // A bell that is gone is rung by nobody.
            for port in [waiting.id, bound.id] {
                let end = effects.firstIndex(of: .portClosed(port)) ?? effects.endIndex
                #expect(
                    !effects[end...].contains(.ring(port)) && !effects[end...].contains(.rungAtEnd(port)), "\(order): \(effects)")
            }
        }
    }

    private func permutations(_ items: [String]) -> [[String]] {
        if items.count < 2 { return [items] }
        return items.indices.flatMap { index in
            var rest = items
            let first = rest.remove(at: index)
            return permutations(rest).map { [first] + $0 }
        }
    }
}
