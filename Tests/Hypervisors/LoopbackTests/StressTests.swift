// Many threads on few connections: for the thread sanitizer, and for what is left over at the end.

import Foundation
import Hypervisor
import HypervisorRules
import LinuxSystem
@testable import Loopback
import SharedMemory
import Testing
import TestSupport
import XenTypes

@Suite(.serialized, .timeLimit(.minutes(2))) struct StressTests {
    /// Runs `body` on so many threads at once, and waits for all.
    private func together(_ threads: Int, _ body: @escaping @Sendable (Int) -> Void) {
        let group = DispatchGroup()
        for index in 0..<threads {
            group.enter()
            Thread.detachNewThread {
                body(index)
                group.leave()
            }
        }
        group.wait()
    }

    @Test func GT10_GT15_GT33_offersMapsAndDeathsFromEightThreadsLeaveNothing() throws {
        let host = try TestHost()
        let front = try host.domain(1), back = try host.domain(0)
        let before = try host.usage
        together(8) { index in
            for round in 0..<60 {
                guard let offer = try? front.offerPages(1 + round % 5, to: .zero, access: round % 3 == 0 ? .readOnly : .readWrite)
                else { Issue.record("no offer"); return }
                let access: GrantAccess = round % 3 == 0 ? .readOnly : .readWrite
                guard let grants = try? back.mapGrants(offer.references, of: DomainID(1), access: access) else {
                    Issue.record("no map")
                    return
                }
                offer.region.store(UInt32(index * 1000 + round), at: 0)
                if grants[0].region.load(grants[0].offset, as: UInt32.self) != UInt32(index * 1000 + round) {
                    Issue.record("another's page")
                }
                switch round % 4 {
                case 0:
                    back.unmapGrants(grants)
                    offer.withdraw()
                case 1:
                    // attacks.md GT10: twice, at the same time as others map.
                    back.unmapGrants(grants)
                    back.unmapGrants(grants)
                case 2:
                    offer.withdraw()
                    back.unmapGrants(grants)
                default:
                    // A process of its own that dies with mappings.
                    let third = try? LoopbackHypervisor(runDirectory: host.directory, domain: .zero, time: .system)
                    _ = try? third?.mapGrants(offer.references, of: DomainID(1), access: access)
                    third?.disconnect()
                    back.unmapGrants(grants)
                }
            }
        }
        #expect(try host.settles(at: before))
        #expect(eventually(5000) { back.cachedRuns == 0 })
    }

    @Test func D2_D3_EV7_closingBindingAndRingingAtOnceEndsAndLeavesNothing() throws {
        let host = try TestHost()
        let front = try host.domain(1), back = try host.domain(0)
        let before = try host.usage
        together(6) { index in
            for round in 0..<80 {
                guard let mine = try? front.allocateChannel(for: .zero),
                    let theirs = try? back.bindChannel(remote: DomainID(1), port: mine.port)
                else { Issue.record("no channel"); return }
                let bells = DispatchGroup()
                bells.enter()
                Thread.detachNewThread {
                    for _ in 0..<50 { mine.notify() }
                    mine.close()
                    mine.notify()
                    bells.leave()
                }
                for _ in 0..<20 {
                    theirs.acknowledge()
                    theirs.unmask()
                    theirs.notify()
                }
                if (round + index) % 2 == 0 { theirs.close() }
                bells.wait()
                if theirs.port.rawValue == 0 { Issue.record("port 0") }
                theirs.close()
                theirs.close()
                if theirs.acknowledge() { Issue.record("an event after close") }
            }
        }
        #expect(try host.settles(at: before))
    }

    @Test func nothingRungAroundARebindIsLost() throws {
        let host = try TestHost()
        let front = try host.domain(1)
        let mine = try front.allocateChannel(for: .zero)
        for round in 0..<200 {
            let back = try host.domain(0)
            let theirs = try back.bindChannel(remote: DomainID(1), port: mine.port)
            theirs.acknowledge()
            mine.notify()
            #expect(try isReadable(theirs.descriptor, milliseconds: 2000), "round \(round)")
            back.disconnect()
            #expect(try isReadable(mine.descriptor, milliseconds: 2000))
            mine.acknowledge()
            // Until the death is through, the port is not free to bind.
            _ = eventually(5000) { (try? host.usage.ports) == 1 }
        }
    }

    @Test func GT20_othersAreServedWhileAProcessWithManyMappingsIsReleased() throws {
        let host = try TestHost()
        let front = try host.domain(1), back = try host.domain(0), other = try host.domain(0)
        let offer = try front.offerPages(1000, to: .zero, access: .readWrite)
        for _ in 0..<100 { _ = try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite) }
        #expect(try host.usage.mappings == 100_000)
        func slowest(_ rounds: Int) throws -> Double {
            var slowest = 0.0
            for _ in 0..<rounds {
                let start = Date()
                let grants = try other.mapGrants([offer.references[0]], of: DomainID(1), access: .readWrite)
                other.unmapGrants(grants)
                slowest = max(slowest, Date().timeIntervalSince(start))
            }
            return slowest
        }
        back.disconnect()
        let busy = try slowest(100)
        #expect(busy < 0.25)
        #expect(try eventually(10_000) { try host.usage.mappings == 0 })
        #expect(offer.isMapped(page: 0) == false)
    }
}
