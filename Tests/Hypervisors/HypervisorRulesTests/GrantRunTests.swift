// Section E of the attack list once more: runs that are not to be granted yet, or not any more, and readers alone.

import HypervisorRules
import Testing
import XenTypes

@Suite struct GrantRunTests {
    /// Before its owner has mapped it and writers were forbidden, a read-only run could be given to a writer.
    @Test func GT30_aRunThatIsNotReadyIsGrantedToNobody() throws {
        let world = try TwoDomains()
        let run = try world.core.makeRun(pages: 1, to: .zero, access: .readOnly, by: world.granter)
        world.table.grant(20, [.permitAccess, .readOnly], to: 0, frame: run.firstFrame)
        #expect(world.map(20, .readOnly).status == .badPage)
        #expect(world.flags(20).isDisjoint(with: .inUse))
        // Nor is it another process's to say that it is ready, or to give it up.
        let sibling = try world.core.connect(DomainID(1))
        #expect(throws: CoreError.noSuchRun(run.id)) { try world.core.armRun(run.id, by: sibling) }
        #expect(throws: CoreError.noSuchRun(run.id)) { try world.core.retireRun(run.id, by: sibling) }
        try world.core.armRun(run.id, by: world.granter)
        #expect(world.map(20, .readOnly).status == .okay)
    }

    /// One that is given up while a page of it is mapped stays for that mapping, and is granted no further: neither by
    /// the entry that is in use nor by another.
    @Test func GT17_aRunThatWasGivenUpIsGrantedNoFurther() throws {
        let world = try TwoDomains()
        for reference in 8...10 { world.grant(reference) }
        let held = try world.map(8).get(), other = try world.map(9).get()
        #expect(try !world.core.retireRun(world.run.id, by: world.granter))
        #expect(world.map(8).status == .badPage)
        #expect(world.map(10).status == .badPage)
        #expect(world.flags(10).isDisjoint(with: .inUse))
        try world.unmap(held, 8)
        #expect(world.core.usage.runs == 1)
        try world.unmap(other, 9)
        #expect(world.core.usage.runs == 0)
        #expect(world.map(8).status == .badPage)
    }

    /// The same for pages that domain 0 maps by their frames, which count as its other mappings do.
    @Test func GT36_framesOfARunThatWasGivenUpAndOneTooMany() throws {
        var limits = HypervisorLimits()
        limits.maptrack = 2
        let world = try TwoDomains(limits: limits)
        world.grant(8)
        let core = world.core, frame = world.run.firstFrame
        let granted = try world.map(8).get()
        let foreign = try core.mapForeign(frame, of: DomainID(1), access: .readOnly, by: world.mapper)
        #expect(throws: GrantStatus.noDeviceSpace) {
            _ = try core.mapForeign(frame, of: DomainID(1), access: .readOnly, by: world.mapper)
        }
        try world.unmap(granted, 8)
        #expect(try !core.retireRun(world.run.id, by: world.granter))
        #expect(throws: GrantStatus.badPage) {
            _ = try core.mapForeign(frame, of: DomainID(1), access: .readOnly, by: world.mapper)
        }
        try world.unmap(foreign, frame)
        #expect(core.usage.runs == 0 && core.usage.mappings == 0)
    }

    @Test func D7_moreReferencesThanAreFreeAreNone() throws {
        var table = GranterTable()
        table.add(ScriptedFrame(), index: 0)
        let free = table.freeCount
        let offered = [free + 1, free, 1].map { table.offer(count: $0, firstFrame: 1, to: .zero, access: .readWrite)?.count }
        #expect(offered == [nil, free, nil])
    }

    @Test func GT16_aReaderAloneIsNoWriter() throws {
        let world = try TwoDomains()
        world.grant(8)
        let reading = try world.map(8, .readOnly).get()
        #expect(world.flags(8) == [.permitAccess, .reading])
        // The first writer asks the entry anew, and leaves as it came.
        let writing = try world.map(8).get()
        #expect(world.flags(8) == [.permitAccess, .reading, .writing])
        try world.unmap(writing, 8)
        #expect(world.flags(8) == [.permitAccess, .reading])
        world.grant(8, [.permitAccess, .readOnly, .reading])
        #expect(world.map(8).status == .generalError)
        try world.unmap(reading, 8)
        #expect(world.flags(8) == [.permitAccess, .readOnly])
    }
}
