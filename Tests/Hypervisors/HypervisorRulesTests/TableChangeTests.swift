// Section E of the attack list: pages of the grant table that come and go, twice where that could be missed, while an
// entry of theirs is mapped.

import HypervisorRules
import Testing
import XenTypes

@Suite struct TableChangeTests {
    /// The writer of a table's page goes while an entry of it is mapped, and others of its domain come and go after it.
    /// The entry that was mapped is the one whose bits are cleared in the end, and no other's.
    @Test func GT9_aTablesPageIsTheSameUntilNothingOfItIsMapped() throws {
        let world = try TwoDomains()
        let (entries, slot) = (ScriptedFrame(), 5)
        let writer = try world.core.connect(DomainID(1))
        #expect(try world.core.addTableFrame(entries, by: writer) == 1)
        let reference = UInt32(grantsPerTableFrame + slot)
        let run = try world.core.makeRun(pages: 1, to: .zero, access: .readWrite, by: writer)
        try world.core.armRun(run.id, by: writer)
        entries.grant(slot, .permitAccess, to: 0, frame: run.firstFrame)
        let mapping = try world.map(reference).get()
        world.core.close(writer)
        while world.core.reap() {}
        for _ in 0..<3 {
            // Another page, which must not be in the old one's place, with the same entry in use; and it goes, too.
            let (later, next) = (ScriptedFrame(), try world.core.connect(DomainID(1)))
            let index = try world.core.addTableFrame(later, by: next)
            #expect(index == 2)
            let own = try world.core.makeRun(pages: 1, to: .zero, access: .readWrite, by: next)
            try world.core.armRun(own.id, by: next)
            later.grant(slot, .permitAccess, to: 0, frame: own.firstFrame)
            let held = try world.map(UInt32(index * grantsPerTableFrame + slot)).get()
            #expect(held.run == own.id)
            #expect(world.map(reference).status == .badGrantReference)
            try world.unmap(held, UInt32(index * grantsPerTableFrame + slot))
            #expect(later.header(slot).flags == .permitAccess)
            #expect(!entries.header(slot).flags.isDisjoint(with: .inUse))
            world.core.close(next)
            while world.core.reap() {}
        }
        try world.unmap(mapping, reference)
        #expect(entries.header(slot).flags == .permitAccess)
        // Now its place is free, and what has it is not reached by the old handle.
        let (last, heir) = (ScriptedFrame(), try world.core.connect(DomainID(1)))
        #expect(try world.core.addTableFrame(last, by: heir) == 1)
        last.grant(slot, [.permitAccess, .reading, .writing], to: 0, frame: run.firstFrame)
        #expect(throws: GrantStatus.badHandle) { try world.unmap(mapping, reference) }
        #expect(last.header(slot).flags == [.permitAccess, .reading, .writing])
        #expect(world.core.usage.mappings == 0)
    }

    /// An entry that is changed and changed back between the look at it and the exchange looks as if nothing had
    /// happened. What is mapped is what it says after it was marked, and that is checked.
    @Test func GT9_anEntryThatIsChangedTwiceIsReadAfterItIsMarked() throws {
        let world = try TwoDomains()
        world.grant(8, page: 2)
        world.table.beforeExchange = { table, slot in
            table.grant(slot, [.permitAccess, .readOnly], to: 5, frame: 0xDEAD)
            table.grant(slot, .permitAccess, to: 0, frame: world.run.firstFrame + 3)
        }
        let mapping = try world.map(8).get()
        #expect(mapping.page == 3)
        world.table.beforeExchange = { table, slot in
            table.grant(slot, [.permitAccess, .readOnly], to: 5, frame: world.run.firstFrame)
            table.grant(slot, .permitAccess, to: 0, frame: 0xDEAD)
        }
        world.grant(9)
        #expect(world.map(9).status == .badPage)
        #expect(world.flags(9) == .permitAccess)
        try world.unmap(mapping, 8)
        #expect(world.flags(8) == .permitAccess && world.core.usage.mappings == 0)
    }
}
