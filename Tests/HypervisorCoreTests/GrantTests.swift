// Section E of the attack list: what a hypervisor can get wrong about grants, row by row.

import HypervisorCore
import Testing
import XenWire

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
        // D6, GT10: a second time, and with the slot in use again.
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
        // Not the grantee; oneself.
        _ = try world.core.createDomain(DomainID(2))
        let third = try world.core.connect(DomainID(2))
        #expect(throws: GrantStatus.generalError) {
            _ = try world.core.map(GrantReference(8), of: DomainID(1), access: .readOnly, by: third)
        }
        #expect(throws: GrantStatus.badDomain) {
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

    @Test func GT28_GT32_aFullMaptrackRefusesAndLeaksNothing() throws {
        var limits = HypervisorLimits()
        limits.maptrack = 100
        let world = try TwoDomains(limits: limits)
        world.grant(8)
        let mappings = try (0..<100).map { _ in try world.map(8).get() }
        let flags = world.flags(8)
        #expect(world.map(8).status == .noDeviceSpace)
        world.grant(9)
        #expect(world.map(9).status == .noDeviceSpace)
        #expect(world.flags(9) == .permitAccess && world.flags(8) == flags)
        for mapping in mappings { try world.unmap(mapping, 8) }
        #expect(world.flags(8) == .permitAccess && world.core.usage.mappings == 0)
        #expect(world.map(9).status == .okay)
    }

    @Test func GT33_whateverDiesFirstEachRunIsReleasedOnce() throws {
        for granterFirst in [true, false] {
            let world = try TwoDomains()
            for slot in 8..<16 { world.grant(slot, page: UInt32(slot - 8)) }
            for slot in UInt32(8)..<16 { _ = try world.map(slot).get() }
            world.core.close(granterFirst ? world.granter : world.mapper)
            while world.core.reap(budget: 3) {}
            world.core.close(granterFirst ? world.mapper : world.granter)
            while world.core.reap(budget: 3) {}
            let released = world.core.takeEffects().count {
                if case .runReleased = $0 { true } else { false }
            }
            #expect(released == 1)
            var usage = world.core.usage
            usage.domains = 0
            #expect(usage == HypervisorUsage())
        }
    }

    @Test func D7_countsOfZeroAboveTheCapAndHugeAreRefusedBeforeAnythingIsMade() throws {
        var limits = HypervisorLimits()
        limits.pagesPerRun = 64
        limits.pages = 100
        limits.runs = 3
        let world = try TwoDomains(limits: limits)
        let before = world.core.usage
        func make(_ pages: Int) throws(CoreError) {
            _ = try world.core.makeRun(pages: pages, to: .zero, access: .readWrite, by: world.granter)
        }
        for pages in [0, -1, 65, Int(UInt32.max), Int.max] { #expect(throws: CoreError.badCount(pages)) { try make(pages) } }
        #expect(world.core.usage == before)
        try make(64)
        #expect(throws: CoreError.limit("pages", 100)) { try make(29) }
        try make(28)
        #expect(throws: CoreError.limit("runs", 3)) { try make(1) }
    }

    @Test func D8_manyDeferredEndsAreAllReclaimedWhenTheirMappingsGo() throws {
        var limits = HypervisorLimits()
        limits.runs = 20_000
        let world = try TwoDomains(limits: limits)
        var own = GranterTable()
        own.add(world.table, index: 0)
        while own.freeCount < 20_000 {
            let frame = ScriptedFrame()
            own.add(frame, index: try world.core.addTableFrame(frame, by: world.granter))
        }
        var mappings: [(Mapping, GrantReference)] = []
        for _ in 0..<10_000 {
            let run = try world.core.makeRun(pages: 1, to: .zero, access: .readWrite, by: world.granter)
            let offered = own.offer(count: 1, firstFrame: run.firstFrame, to: .zero, access: .readWrite)
            let reference = try #require(offered)[0]
            mappings.append((try world.core.map(reference, of: DomainID(1), access: .readWrite, by: world.mapper), reference))
            try world.core.retireRun(run.id, by: world.granter)
        }
        #expect(world.core.usage.deferred == 10_000)
        _ = world.core.takeEffects()
        for (mapping, reference) in mappings { try world.unmap(mapping, reference.rawValue) }
        #expect(world.core.takeEffects().count == 10_000)
        #expect(world.core.usage.deferred == 0 && world.core.usage.runs == 1)
    }

    @Test func D16_aNumberComesBackOnlyWhenItsLastHoldersMappingsAreGone() throws {
        let world = try TwoDomains()
        _ = try world.core.createDomain(DomainID(2))
        let third = try world.core.connect(DomainID(2))
        let run = try world.core.makeRun(pages: 1, to: DomainID(2), access: .readWrite, by: world.granter)
        world.table.grant(8, .permitAccess, to: 2, frame: run.firstFrame)
        let old = try world.core.map(GrantReference(8), of: DomainID(1), access: .readWrite, by: third)
        try world.core.destroyDomain(DomainID(2))
        #expect(throws: CoreError.domainBusy(DomainID(2))) { _ = try world.core.createDomain(DomainID(2)) }
        #expect(try world.core.createDomain(nil) == DomainID(3))
        while world.core.reap() {}
        #expect(try world.core.createDomain(DomainID(2)) == DomainID(2))
        let reborn = try world.core.connect(DomainID(2))
        #expect(throws: GrantStatus.badHandle) {
            try world.core.unmap(old.handle, GrantReference(8), of: DomainID(1), by: reborn)
        }
        #expect(world.core.usage.mappings == 0)
        // The granter's death: its number is free at once, and the mapper's old mapping is not the new domain's.
        world.grant(9)
        let held = try world.map(9).get()
        try world.core.destroyDomain(DomainID(1))
        while world.core.reap() {}
        #expect(try world.core.createDomain(DomainID(1)) == DomainID(1))
        #expect(world.map(9).status == .badGrantReference)
        try world.unmap(held, 9)
        #expect(world.core.usage.mappings == 0 && world.core.usage.runs == 0)
    }

    @Test func theTablesPagesAreBoundedAndComeBack() throws {
        var limits = HypervisorLimits()
        limits.tableFrames = 2
        let world = try TwoDomains(limits: limits)
        let sibling = try world.core.connect(DomainID(1))
        let second = ScriptedFrame()
        #expect(try world.core.addTableFrame(second, by: sibling) == 1)
        #expect(throws: CoreError.limit("grant table pages", 2)) {
            _ = try world.core.addTableFrame(ScriptedFrame(), by: sibling)
        }
        let run = try world.core.makeRun(pages: 1, to: .zero, access: .readWrite, by: sibling)
        second.grant(5, .permitAccess, to: 0, frame: run.firstFrame)
        let mapping = try world.map(517).get()
        world.core.close(sibling)
        while world.core.reap() {}
        // Its writer is gone: nothing more is granted by it, and while an entry is mapped its number is not another's.
        #expect(world.map(517).status == .badGrantReference)
        #expect(throws: CoreError.limit("grant table pages", 2)) {
            _ = try world.core.addTableFrame(ScriptedFrame(), by: world.granter)
        }
        try world.unmap(mapping, 517)
        #expect(second.header(5).flags == .permitAccess)
        #expect(try world.core.addTableFrame(ScriptedFrame(), by: world.granter) == 1)
    }
}

extension TwoDomains {
    func grant(_ reference: Int, flags: GrantFlags) { grant(reference, page: 0, flags) }
    func grant(_ reference: Int, _ flags: GrantFlags) { grant(reference, page: 0, flags) }
}
