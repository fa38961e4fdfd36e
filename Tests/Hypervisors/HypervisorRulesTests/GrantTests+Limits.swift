// What is bounded, and what deaths leave behind: nothing that is still held, and all of the rest.

import HypervisorRules
import Testing
import XenTypes

extension GrantTests {
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
