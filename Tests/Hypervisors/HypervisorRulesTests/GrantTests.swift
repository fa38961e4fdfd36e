// Section E of the attack list: what a hypervisor can get wrong about grants, row by row.

import HypervisorRules
import Testing
import XenTypes

@Suite struct GrantTests {
    @Test func GT1_referencesThatAreReservedUnsetOrOutOfRangeAreBad() throws {
        let world = try TwoDomains()
        for reference: UInt32 in [0, 1, 7, 512, 513, 1 << 31, UInt32.max] {
            if reference < 512 { world.grant(Int(reference)) }
            #expect(world.map(reference).status == .badGrantReference, "\(reference)")
        }
        // The last entry is there, and grants nothing.
        #expect(world.map(511).status == .generalError)
        world.grant(511)
        #expect(world.map(511).status == .okay)
        #expect(world.core.usage.mappings == 1)
    }

    @Test func GT2_beforeTheTableAfterTheEndAndForADyingDomain() throws {
        let core = HypervisorCore()
        _ = try core.createDomain(.zero)
        _ = try core.createDomain(DomainID(1))
        let mapper = try core.connect(.zero)
        func status(_ domain: UInt16) -> GrantStatus {
            Result { () throws(GrantStatus) in
                try core.map(GrantReference(8), of: DomainID(domain), access: .readOnly, by: mapper)
            }.status
        }
        #expect(status(1) == .badGrantReference)
        #expect(status(2) == .badDomain)
        let world = try TwoDomains()
        world.grant(8)
        try world.core.destroyDomain(DomainID(1))
        #expect(world.map(8).status == .badDomain)
        while world.core.reap() {}
        #expect(world.map(8).status == .badDomain)
        // A dead connection maps nothing either.
        let other = try TwoDomains()
        other.grant(8)
        other.core.close(other.mapper)
        #expect(other.map(8).status == .generalError)
        #expect(throws: CoreError.noSuchConnection) {
            _ = try other.core.makeRun(pages: 1, to: .zero, access: .readWrite, by: other.mapper)
        }
    }

    @Test func GT4_GT5_GT12_onlyPlainVersionOneEntriesGrantAnything() throws {
        let world = try TwoDomains()
        let none: [GrantFlags] = [
            [], GrantFlags(rawValue: 2), GrantFlags(rawValue: 3), [.permitAccess, .subPage],
            [GrantFlags(rawValue: 2), .readOnly],
        ]
        for flags in none {
            world.grant(20, flags: flags)
            #expect(world.map(20, .readOnly).status == .generalError)
            #expect(world.flags(20) == flags)
        }
    }

    @Test func GT11_everyCombinationOfFlagsMapsWhollyOrNotAtAll() throws {
        let before = try TwoDomains().core.usage
        for entry in UInt16(0)..<32 {
            for access in [GrantAccess.readOnly, .readWrite] {
                let world = try TwoDomains()
                let flags = GrantFlags(rawValue: entry)
                world.grant(9, flags: flags)
                let result = world.map(9, access)
                let allowed = entry & 3 == 1 && (access == .readOnly || !flags.contains(.readOnly))
                #expect((result.status == .okay) == allowed)
                if case .success(let mapping) = result {
                    #expect(world.flags(9).contains(access == .readWrite ? .inUse : .reading))
                    try world.unmap(mapping, 9)
                    #expect(world.flags(9).isDisjoint(with: .inUse))
                } else {
                    #expect(world.flags(9) == flags)
                }
                var usage = world.core.usage
                usage.grants = before.grants
                #expect(usage == before)
            }
        }
    }

    @Test func GT16_inUseBitsStandExactlyAsLongAsAPinOfTheirKind() throws {
        // Every order of releasing two reads and two writes of one reference.
        var orders: [[Int]] = [[]]
        for _ in 0..<4 { orders = orders.flatMap { order in (0..<4).filter { !order.contains($0) }.map { order + [$0] } } }
        for order in orders {
            let world = try TwoDomains()
            world.grant(8)
            let kinds: [GrantAccess] = [.readOnly, .readWrite, .readOnly, .readWrite]
            let mappings = try kinds.map { try world.map(8, $0).get() }
            var held = Set(0..<4)
            for index in order {
                #expect(world.flags(8).contains(.reading))
                #expect(world.flags(8).contains(.writing) == held.contains { kinds[$0] == .readWrite })
                try world.unmap(mappings[index], 8)
                held.remove(index)
            }
            #expect(world.flags(8) == .permitAccess)
        }
    }

    @Test func GT17_GT31_aRunIsNotReleasedWhileAPageOfItIsPinned() throws {
        let world = try TwoDomains()
        world.grant(8)
        let mapping = try world.map(8).get()
        #expect(try !world.core.retireRun(world.run.id, by: world.granter))
        #expect(world.core.takeEffects().isEmpty)
        #expect(world.map(8).status == .badPage)
        // Its numbers are not given to another run meanwhile, nor when the granter dies.
        let other = try world.core.makeRun(pages: 8, to: .zero, access: .readWrite, by: world.granter)
        #expect(other.firstFrame >= world.run.firstFrame + 8)
        try world.core.destroyDomain(DomainID(1))
        while world.core.reap() {}
        #expect(!world.core.takeEffects().contains { if case .runReleased(world.run.id, _, _) = $0 { true } else { false } })
        try world.unmap(mapping, 8)
        #expect(world.core.takeEffects() == [.runReleased(world.run.id, owner: world.granter, deferred: true)])
        #expect(world.core.usage.runs == 0 && world.core.usage.deferred == 0 && world.core.usage.mappings == 0)
    }

    @Test func GT18_unmapWantsTheGrantThatWasMapped() throws {
        let world = try TwoDomains()
        world.grant(8)
        world.grant(9, page: 1)
        let mapping = try world.map(8).get()
        let stranger = try world.core.connect(.zero)
        func status(_ handle: UInt32, _ reference: UInt32, _ domain: UInt16, _ connection: ConnectionID) -> GrantStatus {
            Result { () throws(GrantStatus) in
                try world.core.unmap(handle, GrantReference(reference), of: DomainID(domain), by: connection)
            }.status
        }
        #expect(status(mapping.handle, 9, 1, world.mapper) == .badHandle)
        #expect(status(mapping.handle, 8, 2, world.mapper) == .badHandle)
        #expect(status(mapping.handle, 8, 1, stranger) == .badHandle)
        #expect(status(mapping.handle &+ 1, 8, 1, world.mapper) == .badHandle)
        #expect(status(UInt32.max, 8, 1, world.mapper) == .badHandle)
        #expect(world.core.usage.mappings == 1)
        #expect(status(mapping.handle, 8, 1, world.mapper) == .okay)
        // attacks.md D6, GT10: a second time, and with the slot in use again.
        #expect(status(mapping.handle, 8, 1, world.mapper) == .badHandle)
        let next = try world.map(8).get()
        #expect(next.handle != mapping.handle)
        #expect(status(mapping.handle, 8, 1, world.mapper) == .badHandle)
        #expect(world.core.usage.mappings == 1)
    }

    @Test func GT19_aGranterThatKeepsChangingTheEntryIsRefusedAfterAFewTries() throws {
        let world = try TwoDomains()
        world.grant(8)
        world.table.beforeExchange = { table, slot in
            // Flips a flag that changes nothing of what is granted.
            var header = table.headers[slot]
            header.flags.formSymmetricDifference(GrantFlags(rawValue: 1 << 5))
            table.write(slot, header, frame: world.run.firstFrame)
        }
        #expect(world.map(8).status == .generalError)
        #expect(world.table.exchanges <= 8)
        #expect(world.flags(8).isDisjoint(with: .inUse))
        #expect(world.core.usage.mappings == 0)
        // Changes to what is granted, made in between, are seen.
        world.table.beforeExchange = { table, slot in table.grant(slot, .permitAccess, to: 5, frame: world.run.firstFrame) }
        world.grant(9)
        #expect(world.map(9).status == .generalError)
        world.table.beforeExchange = { table, slot in
            table.grant(slot, [.permitAccess, .readOnly], to: 0, frame: world.run.firstFrame)
        }
        world.grant(10)
        #expect(world.map(10).status == .generalError)
        // A frame exchanged under our hands is loaded once, checked and kept.
        world.table.beforeExchange = nil
        world.table.beforeFrame = { table, slot in table.grant(slot, table.headers[slot].flags, to: 0, frame: 0xDEAD_BEEF) }
        world.grant(11)
        #expect(world.map(11).status == .badPage)
        #expect(world.flags(11).isDisjoint(with: .inUse))
    }

    @Test func GT20_aDeathWithManyMappingsIsReleasedInSlices() throws {
        let world = try TwoDomains()
        world.grant(8)
        for _ in 0..<100_000 { _ = try world.map(8, .readOnly).get() }
        world.core.close(world.mapper)
        let other = try world.core.connect(.zero)
        var slices = 0
        while world.core.reap(budget: 512) {
            slices += 1
            if slices == 10 {
                // Others are served in between.
                world.grant(9, page: 1)
                let mapping = try world.core.map(GrantReference(9), of: DomainID(1), access: .readWrite, by: other)
                try world.core.unmap(mapping.handle, GrantReference(9), of: DomainID(1), by: other)
            }
        }
        #expect(slices >= 100_000 / 512)
        #expect(world.core.usage.mappings == 0 && world.core.usage.dying == 0)
        #expect(world.flags(8) == .permitAccess)
    }

    @Test func GT23_reservedDomainNumbersAreRefusedEverywhere() throws {
        let world = try TwoDomains()
        for number in UInt16(0x7FF0)...0x8001 {
            let domain = DomainID(number)
            #expect(throws: GrantStatus.badDomain) {
                _ = try world.core.map(GrantReference(8), of: domain, access: .readOnly, by: world.mapper)
            }
            #expect(throws: CoreError.noSuchDomain(domain)) {
                _ = try world.core.makeRun(pages: 1, to: domain, access: .readOnly, by: world.granter)
            }
            #expect(throws: CoreError.noSuchDomain(domain)) { _ = try world.core.allocatePort(for: domain, by: world.granter) }
            #expect(throws: CoreError.noSuchDomain(domain)) {
                _ = try world.core.bindPort(remote: domain, port: EventPort(1), by: world.granter)
            }
            #expect(throws: CoreError.noSuchDomain(domain)) { _ = try world.core.createDomain(domain) }
        }
    }

    @Test func GT25_whatIsPinnedDecidesNotWhatTheEntrySaysSince() throws {
        let world = try TwoDomains()
        world.grant(8, page: 2)
        let first = try world.map(8, .readOnly).get()
        #expect(first.page == 2)
        // The granter writes another frame, and another type, over the entry in use.
        world.table.grant(8, [.permitAccess, .reading], to: 0, frame: world.run.firstFrame + 5)
        #expect(try world.map(8, .readOnly).get().page == 2)
        world.table.grant(8, GrantFlags(rawValue: 3), to: 0, frame: world.run.firstFrame + 5)
        #expect(try world.map(8, .readOnly).get().page == 2)
        // The first writer asks the entry anew.
        #expect(world.map(8, .readWrite).status == .generalError)
        #expect(world.core.usage.mappings == 3)
    }

    @Test func GT29_anEntryClearedWhileMappedKeepsTheOldPageForItsMapper() throws {
        let world = try TwoDomains()
        _ = try world.core.createDomain(DomainID(2))
        let third = try world.core.connect(DomainID(2))
        let forThird = try world.core.makeRun(pages: 1, to: DomainID(2), access: .readWrite, by: world.granter)
        world.grant(8, page: 3)
        let old = try world.map(8).get()
        world.table.grant(8, .permitAccess, to: 2, frame: forThird.firstFrame)
        #expect(throws: GrantStatus.generalError) {
            _ = try world.core.map(GrantReference(8), of: DomainID(1), access: .readWrite, by: third)
        }
        #expect(try world.map(8).get().page == 3)
        world.core.close(world.mapper)
        while world.core.reap() {}
        let new = try world.core.map(GrantReference(8), of: DomainID(1), access: .readWrite, by: third)
        #expect(new.run == forThird.id && new.run != old.run)
    }

    @Test func GT29_theGrantersOwnTableSaysBusyWhileMapped() throws {
        let world = try TwoDomains()
        var own = GranterTable()
        own.add(world.table, index: 0)
        let offered = own.offer(count: 2, firstFrame: world.run.firstFrame, to: .zero, access: .readWrite)
        let references = try #require(offered)
        let mapping = try world.core.map(references[0], of: DomainID(1), access: .readOnly, by: world.mapper)
        let free = own.freeCount
        let busy = own.end(references[0]), idle = own.end(references[1])
        #expect(!busy && idle)
        #expect(own.freeCount == free + 1)
        try world.unmap(mapping, references[0].rawValue)
        let ended = own.end(references[0])
        #expect(ended && own.freeCount == free + 2)
    }

    @Test func GT30_onlyTheGranteeAndOnlyWhatTheRunAllows() throws {
        let world = try TwoDomains(access: .readOnly)
        world.grant(8, .init([.permitAccess, .readOnly]))
        #expect(world.map(8).status == .generalError)
        // The entry promises more than the run was made for.
        world.grant(9)
        #expect(world.map(9).status == .permissionDenied)
        #expect(world.flags(9) == .permitAccess)
        let reading = try world.map(9, .readOnly).get()
        #expect(world.map(9).status == .generalError)
        try world.unmap(reading, 9)
        // Not the grantee, whose own domain granted it even.
        _ = try world.core.createDomain(DomainID(2))
        let third = try world.core.connect(DomainID(2))
        #expect(throws: GrantStatus.generalError) {
            _ = try world.core.map(GrantReference(8), of: DomainID(1), access: .readOnly, by: third)
        }
        #expect(throws: GrantStatus.generalError) {
            _ = try world.core.map(GrantReference(8), of: DomainID(1), access: .readOnly, by: world.granter)
        }
        // The third is named in the entry, and the run was still made for another.
        world.table.grant(10, [.permitAccess, .readOnly], to: 2, frame: world.run.firstFrame)
        #expect(throws: GrantStatus.permissionDenied) {
            _ = try world.core.map(GrantReference(10), of: DomainID(1), access: .readOnly, by: third)
        }
        // Frames that are nobody's, another process's, or given up.
        world.table.grant(11, .permitAccess, to: 0, frame: world.run.firstFrame + 8)
        #expect(world.map(11, .readOnly).status == .badPage)
        let sibling = try world.core.connect(DomainID(1))
        let siblings = try world.core.makeRun(pages: 1, to: .zero, access: .readWrite, by: sibling)
        world.table.grant(12, .permitAccess, to: 0, frame: siblings.firstFrame)
        #expect(world.map(12).status == .badPage)
        try world.core.retireRun(world.run.id, by: world.granter)
        #expect(world.map(9, .readOnly).status == .badPage)
        #expect(world.core.usage.mappings == 0)
    }
}

extension TwoDomains {
    func grant(_ reference: Int, flags: GrantFlags) { grant(reference, page: 0, flags) }
    func grant(_ reference: Int, _ flags: GrantFlags) { grant(reference, page: 0, flags) }
}
