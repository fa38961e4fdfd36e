// The loopback hypervisor as the drivers use it, daemon and clients in one process: the same sentences as for the
// in-process one.

import Foundation
import Hypervisor
import HypervisorRules
import LinuxSystem
@testable import Loopback
import SharedMemory
import Testing
import TestSupport
import XenStore
import XenTypes

/// A daemon in a directory of its own, gone with the test.
final class TestHost: Sendable {
    let directory: String
    let host: LoopbackHost
    let control: LoopbackControl

    init(limits: HypervisorLimits = HypervisorLimits()) throws {
        directory = NSTemporaryDirectory() + "causeway-\(UUID().uuidString.prefix(8))"
        host = try LoopbackHost(runDirectory: directory, limits: limits, time: .system)
        try host.start()
        control = try LoopbackControl(runDirectory: directory, time: .system)
    }

    deinit {
        host.stop()
        try? FileManager.default.removeItem(atPath: directory)
    }

    func domain(_ number: UInt16) throws -> LoopbackHypervisor {
        if try !control.domains().contains(DomainID(number)) { _ = try control.createDomain(DomainID(number)) }
        return try LoopbackHypervisor(runDirectory: directory, domain: DomainID(number), time: .system)
    }

    var usage: HypervisorUsage { get throws { try control.usage() } }

    /// Waits until what is in use is `expected`; releases are done in slices and notices travel.
    func settles(at expected: HypervisorUsage, seconds: Int64 = 5) throws -> Bool {
        try eventually(seconds * 1000) { try usage == expected }
    }
}

func isReadable(_ descriptor: Descriptor, milliseconds: Int32 = 0) throws -> Bool {
    try waitReadable(descriptor.rawValue, milliseconds: milliseconds)
}

@Suite(.timeLimit(.minutes(1))) struct LoopbackTests {
    let host: TestHost
    let front: LoopbackHypervisor
    let back: LoopbackHypervisor

    init() throws {
        host = try TestHost()
        front = try host.domain(1)
        back = try host.domain(0)
    }

    @Test func offeredPagesAreSeenByTheMapperAndGoBackToTheBaseline() throws {
        let before = try host.usage
        do {
            let offer = try front.offerPages(3, to: .zero, access: .readWrite)
            let grants = try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
            offer.region.store(UInt32(0xCAFE), at: 4096)
            #expect(grants[1].region.load(grants[1].offset, as: UInt32.self) == 0xCAFE)
            grants[2].region.store(UInt64(7), at: grants[2].offset + 8)
            #expect(offer.region.load(8192 + 8, as: UInt64.self) == 7)
            #expect(offer.isMapped(page: 1) == true)
            let usage = try host.usage
            #expect(usage.mappings == 3 && usage.grants == 3 && usage.runs == 1 && usage.pages == 3)
            back.unmapGrants(grants)
            #expect(offer.isMapped(page: 1) == false)
            #expect(offer.withdraw())
        }
        #expect(try host.usage == before)
        #expect(eventually(5000) { back.cachedRuns == 0 })
    }

    @Test func batchesLargerThanAMessageAndManyRunsWork() throws {
        let before = try host.usage
        do {
            let big = try front.offerPages(3000, to: .zero, access: .readWrite)
            let small = try (0..<300).map { _ in try front.offerPages(1, to: .zero, access: .readOnly) }
            let grants = try back.mapGrants(big.references, of: DomainID(1), access: .readWrite)
            let others = try back.mapGrants(small.flatMap(\.references), of: DomainID(1), access: .readOnly)
            #expect(grants.count == 3000 && others.count == 300)
            #expect(Set(grants.map(\.handle)).count == 3000)
            small[299].region.store(UInt8(77), at: 9)
            #expect(others[299].region.load(others[299].offset + 9, as: UInt8.self) == 77)
            let statuses = try back.copyGrants(
                big.references.prefix(1500).map { reference in
                    GrantCopy(
                        source: .grant(reference, of: DomainID(1), offset: 0),
                        destination: .local(grants[0].region, offset: 2999 * 4096), byteCount: 16)
                })
            #expect(statuses == Array(repeating: .okay, count: 1500))
            back.unmapGrants(grants)
            back.unmapGrants(others)
        }
        #expect(try host.settles(at: before))
    }

    @Test func contiguousMappingFollowsTheOrderOfTheReferences() throws {
        let offer = try front.offerPages(4, to: .zero, access: .readWrite)
        let other = try front.offerPages(1, to: .zero, access: .readWrite)
        for page in 0..<4 { offer.region.store(UInt32(page), at: page * 4096) }
        other.region.store(UInt32(99), at: 0)
        let ring = try back.mapContiguous(
            offer.references.reversed() + other.references, of: DomainID(1), access: .readWrite)
        #expect((0..<5).map { ring.region.load($0 * 4096, as: UInt32.self) } == [3, 2, 1, 0, 99])
        ring.unmap()
        ring.unmap()
        #expect(try host.usage.mappings == 0)
    }

    @Test func copyMovesBytesBothWaysAndRefusesWhatXenRefuses() throws {
        let offer = try front.offerPages(2, to: .zero, access: .readWrite)
        let batch = try CopyBatch(from: offer)
        let pageToPage = GrantCopy(
            source: .grant(offer.references[0], of: DomainID(1), offset: 0),
            destination: .grant(offer.references[1], of: DomainID(1), offset: 0), byteCount: 4096)
        #expect(try back.copyGrants(batch.operations + [pageToPage]) == batch.statuses + [.okay])
        #expect(batch.isCopied)
        #expect(offer.region.bytes(at: 4096 + 4092, count: 4) == [1, 2, 3, 4])
        #expect(try host.usage.mappings == 0)
    }

    @Test func withdrawingWhileMappedIsDeferredUntilTheMapperLetsGo() throws {
        let before = try host.usage
        let offer = try front.offerPages(2, to: .zero, access: .readWrite)
        let grants = try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
        #expect(!offer.withdraw())
        #expect(try host.usage.deferred == 1)
        #expect(throws: HypervisorError.grantRefused(offer.references[0], of: DomainID(1), .badPage)) {
            _ = try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
        }
        grants[0].region.store(UInt8(1), at: grants[0].offset)
        back.unmapGrants(grants)
        #expect(try host.settles(at: before))
    }

    @Test func EV15_anEventBeforeTheBindAndOneWhileMaskedAreNotLost() throws {
        let mine = try front.allocateChannel(for: .zero)
        mine.notify()
        let theirs = try back.bindChannel(remote: DomainID(1), port: mine.port)
        #expect(try isReadable(theirs.descriptor, milliseconds: 1000))
        #expect(theirs.acknowledge())
        theirs.unmask()
        // The notice of the bind travels to the first side, whose rings must not be lost meanwhile.
        mine.notify()
        #expect(try isReadable(theirs.descriptor, milliseconds: 1000))
        theirs.notify()
        #expect(try isReadable(mine.descriptor, milliseconds: 1000))
        #expect(mine.acknowledge())
        #expect(!mine.acknowledge())
    }

    @Test func EV16_theDeathOfAPeerRingsAndItsSuccessorBindsToTheSamePort() throws {
        let mine = try front.allocateChannel(for: .zero)
        let theirs = try back.bindChannel(remote: DomainID(1), port: mine.port)
        #expect(throws: HypervisorError.portRefused(mine.port, of: DomainID(1), reason: "EINVAL")) {
            _ = try host.domain(0).bindChannel(remote: DomainID(1), port: mine.port)
        }
        _ = mine.acknowledge()
        back.disconnect()
        #expect(try isReadable(mine.descriptor, milliseconds: 100))
        #expect(mine.acknowledge())
        let successor = try host.domain(0)
        let again = try successor.bindChannel(remote: DomainID(1), port: mine.port)
        #expect(again.acknowledge())
        // What is rung while the notice of the bind is under way arrives, at the successor.
        mine.notify()
        #expect(try isReadable(again.descriptor, milliseconds: 1000))
        again.acknowledge()
        again.notify()
        #expect(try isReadable(mine.descriptor, milliseconds: 1000))
        theirs.close()
        #expect(try host.usage.ports == 2)
    }

    @Test func destroyingADomainEndsItsConnectionsAndFreesItsNumber() throws {
        let offer = try front.offerPages(1, to: .zero, access: .readWrite)
        let grants = try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
        offer.region.store(UInt8(5), at: 0)
        try host.control.destroyDomain(DomainID(1))
        #expect(throws: HypervisorError.self) { _ = try front.offerPages(1, to: .zero, access: .readWrite) }
        // attacks.md GT31: the page stays valid memory until it is unmapped.
        #expect(grants[0].region.load(grants[0].offset, as: UInt8.self) == 5)
        // attacks.md D16: the number comes back, and the old mapping is not its own.
        let next = try host.domain(1)
        #expect(throws: HypervisorError.grantRefused(offer.references[0], of: DomainID(1), .badGrantReference)) {
            _ = try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
        }
        let fresh = try next.offerPages(1, to: .zero, access: .readWrite)
        let mapped = try back.mapGrants(fresh.references, of: DomainID(1), access: .readWrite)
        #expect(mapped[0].region.load(mapped[0].offset, as: UInt8.self) == 0)
        back.unmapGrants(grants)
        #expect(try host.usage.mappings == 1)
        back.unmapGrants(mapped)
        #expect(eventually(5000) { back.cachedRuns == 1 })
    }

    @Test func theStoreIsReachedOverTheConnectionAndKnowsTheDomain() throws {
        let tools = try back.connectStore()
        try tools.write("/local/domain/1/name", "guest")
        try tools.setPermissions("/local/domain/1/name", [StorePermission(.none, DomainID(1))])
        let own = try front.connectStore()
        #expect(try own.read("name") == "guest")
        #expect(throws: StoreError.self) { try own.write("/tool/x", "1") }
        #expect(try tools.isIntroduced(DomainID(1)))
        let stock = try StoreClient(socketPath: LoopbackHost.storePath(in: host.directory), time: .system)
        #expect(try stock.read("/local/domain/1/name") == "guest")
        try host.control.destroyDomain(DomainID(1))
        #expect(eventually(5000) { (try? tools.exists("/local/domain/1/name")) == false })
    }

    @Test func D5_A5_theFailureOfOneMapUnmapsTheOthersWhereverItIs() throws {
        let offer = try front.offerPages(11, to: .zero, access: .readWrite)
        let before = try host.usage
        for position in 0..<11 {
            var references = offer.references
            references[position] = GrantReference(400)
            #expect(throws: HypervisorError.grantRefused(GrantReference(400), of: DomainID(1), .generalError)) {
                _ = try back.mapGrants(references, of: DomainID(1), access: .readWrite)
            }
            #expect(throws: HypervisorError.self) {
                _ = try back.mapContiguous(references, of: DomainID(1), access: .readWrite)
            }
            #expect(try host.usage == before)
        }
    }
}

@Suite(.timeLimit(.minutes(1))) struct LimitTests {
    @Test func oneDomainCannotTakeTheDaemonsDescriptors() throws {
        var limits = HypervisorLimits()
        limits.descriptors = 20
        limits.connections = 4
        let host = try TestHost(limits: limits)
        let greedy = try host.domain(1), modest = try host.domain(2)
        var offers: [any OfferedPages] = []
        #expect(throws: HypervisorError.exhausted("descriptors, of which there may be at most 20")) {
            while offers.count < 100 { offers.append(try greedy.offerPages(1, to: .zero, access: .readWrite)) }
        }
        #expect(throws: HypervisorError.self) { _ = try greedy.allocateChannel(for: .zero) }
        #expect(offers.count >= 5)
        _ = try modest.offerPages(1, to: .zero, access: .readWrite)
        var stores: [StoreClient] = []
        #expect(throws: HypervisorError.self) { while stores.count < 100 { stores.append(try greedy.connectStore()) } }
        #expect(stores.count == 4)
        #expect(throws: HypervisorError.self) {
            var more: [LoopbackHypervisor] = []
            while more.count < 100 {
                more.append(try LoopbackHypervisor(runDirectory: host.directory, domain: DomainID(1), time: .system))
            }
        }
        offers = []
        _ = try greedy.allocateChannel(for: .zero)
    }

    @Test func whoeverConnectsAndSaysNothingIsOneOfAFew() throws {
        let host = try TestHost()
        var silent: [Descriptor] = []
        for _ in 0..<100 { silent.append(try connectSocket(host.directory)) }
        // The daemon closes those that are too many.
        #expect(try eventually(5000) { try silent.count { try isReadable($0) } == 100 - HostLoop.mostGreeters })
        // Whoever says at once what it wants is let in all the same, and costs the one that has been silent longest its
        // place.
        _ = try LoopbackHypervisor(runDirectory: host.directory, domain: .zero, time: .system)
        #expect(try host.control.domains() == [.zero])
        #expect(try eventually(5000) { try silent.count { try isReadable($0) } == 101 - HostLoop.mostGreeters })
        silent = []
    }
}
