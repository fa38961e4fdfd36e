// The in-process hypervisor as the drivers use it: offers, maps, copies, channels, death and faults.

import Hypervisor
import HypervisorRules
import InProcess
import LinuxSystem
import SharedMemory
import Testing
import TestSupport
import XenStore
import XenTypes

@Suite struct InProcessTests {
    let host = InProcessHost(time: .system)

    @Test func offeredPagesAreSeenByTheMapperAndGoBackToTheBaseline() throws {
        let baseline = host.usage
        let front = host.domain(1), back = host.domain(0)
        let before = host.usage
        let offer = try front.offerPages(3, to: .zero, access: .readWrite)
        #expect(offer.references.allSatisfy { $0.rawValue >= 8 })
        let grants = try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
        offer.region.store(UInt32(0xCAFE), at: 4096)
        #expect(grants[1].region.load(grants[1].offset, as: UInt32.self) == 0xCAFE)
        grants[2].region.store(UInt64(7), at: grants[2].offset + 8)
        #expect(offer.region.load(8192 + 8, as: UInt64.self) == 7)
        #expect(offer.isMapped(page: 1) == true)
        #expect(host.usage.mappings == 3 && host.usage.grants == 3)
        back.unmapGrants(grants)
        #expect(offer.isMapped(page: 1) == false)
        #expect(offer.withdraw())
        #expect(host.usage == before)
        front.disconnect()
        back.disconnect()
        var end = host.usage
        end.domains = baseline.domains
        #expect(end == baseline)
    }

    @Test func contiguousMappingFollowsTheOrderOfTheReferences() throws {
        let front = host.domain(1), back = host.domain(0)
        let offer = try front.offerPages(4, to: .zero, access: .readWrite)
        for page in 0..<4 { offer.region.store(UInt32(page), at: page * 4096) }
        let ring = try back.mapContiguous(offer.references.reversed(), of: DomainID(1), access: .readWrite)
        #expect((0..<4).map { ring.region.load($0 * 4096, as: UInt32.self) } == [3, 2, 1, 0])
        ring.unmap()
        ring.unmap()
        #expect(host.usage.mappings == 0)
    }

    @Test func aReadOnlyGrantIsMappedOnlyForReading() throws {
        let front = host.domain(1), back = host.domain(0)
        let offer = try front.offerPages(1, to: .zero, access: .readOnly)
        #expect(throws: HypervisorError.grantRefused(offer.references[0], of: DomainID(1), .generalError)) {
            _ = try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
        }
        let grants = try back.mapGrants(offer.references, of: DomainID(1), access: .readOnly)
        #expect(!grants[0].region.isWritable)
        offer.region.store(UInt8(9), at: 5)
        #expect(grants[0].region.load(5, as: UInt8.self) == 9)
    }

    @Test func D5_theFailureOfOneMapUnmapsTheOthersWhicheverItIs() throws {
        let front = host.domain(1), back = host.domain(0)
        let offer = try front.offerPages(11, to: .zero, access: .readWrite)
        let before = host.usage
        for failing in 1...11 {
            host.failMap(number: failing, with: .tryAgain)
            #expect(throws: HypervisorError.grantRefused(offer.references[failing - 1], of: DomainID(1), .tryAgain)) {
                _ = try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
            }
            #expect(host.usage == before)
            // attacks.md A6: the call works again.
            back.unmapGrants(try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite))
        }
    }

    @Test func D6_unmappingTwiceChangesNothingOfOthers() throws {
        let front = host.domain(1), back = host.domain(0)
        let offer = try front.offerPages(2, to: .zero, access: .readWrite)
        let first = try back.mapGrants([offer.references[0]], of: DomainID(1), access: .readWrite)
        back.unmapGrants(first)
        let second = try back.mapGrants([offer.references[0]], of: DomainID(1), access: .readWrite)
        back.unmapGrants(first)
        #expect(host.usage.mappings == 1)
        back.unmapGrants(second)
        #expect(host.usage.mappings == 0)
    }

    @Test func withdrawingWhileMappedIsDeferredUntilTheMapperLetsGo() throws {
        let front = host.domain(1), back = host.domain(0)
        let before = host.usage
        let offer = try front.offerPages(2, to: .zero, access: .readWrite)
        let grants = try back.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
        #expect(!offer.withdraw())
        #expect(host.usage.deferred == 1)
        grants[0].region.store(UInt8(1), at: grants[0].offset)
        back.unmapGrants(grants)
        #expect(host.usage == before)
    }

    @Test func killingAProcessReleasesWhatItHeldAndNothingElse() throws {
        let front = host.domain(1)
        let first = host.domain(0), second = host.domain(0)
        let offer = try front.offerPages(2, to: .zero, access: .readWrite)
        let kept = try first.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
        _ = try second.mapGrants(offer.references, of: DomainID(1), access: .readWrite)
        #expect(host.usage.mappings == 4)
        second.disconnect()
        #expect(host.usage.mappings == 2)
        #expect(offer.isMapped(page: 0) == true)
        first.unmapGrants(kept)
        #expect(offer.isMapped(page: 0) == false)
    }

    @Test func copyMovesBytesBothWaysAndRefusesWhatXenRefuses() throws {
        let front = host.domain(1), back = host.domain(0)
        let offer = try front.offerPages(2, to: .zero, access: .readWrite)
        let batch = try CopyBatch(from: offer)
        let tooMuch = GrantCopy(
            source: .grant(offer.references[0], of: DomainID(1), offset: 0), destination: .local(batch.local, offset: 4000),
            byteCount: 97)
        #expect(try back.copyGrants(batch.operations + [tooMuch]) == batch.statuses + [.badCopyArgument])
        #expect(batch.isCopied)
        #expect(host.usage.mappings == 0)
    }

    @Test func EV15_anEventBeforeTheBindAndOneWhileMaskedAreNotLost() throws {
        let front = host.domain(1), back = host.domain(0)
        let mine = try front.allocateChannel(for: .zero)
        mine.notify()
        let theirs = try back.bindChannel(remote: DomainID(1), port: mine.port)
        #expect(try waitReadable(theirs.descriptor.rawValue, milliseconds: 0))
        #expect(theirs.acknowledge())
        // Masked now: a notification waits for the unmask.
        mine.notify()
        #expect(try !waitReadable(theirs.descriptor.rawValue, milliseconds: 0))
        theirs.unmask()
        #expect(try waitReadable(theirs.descriptor.rawValue, milliseconds: 0))
        #expect(theirs.acknowledge())
        #expect(!theirs.acknowledge())
    }

    @Test func EV16_theDeathOfAPeerRingsAndItsSuccessorBindsToTheSamePort() throws {
        let front = host.domain(1)
        let mine = try front.allocateChannel(for: .zero)
        let back = host.domain(0)
        let theirs = try back.bindChannel(remote: DomainID(1), port: mine.port)
        #expect(throws: HypervisorError.self) { _ = try back.bindChannel(remote: DomainID(1), port: mine.port) }
        #expect(!mine.acknowledge())
        mine.unmask()
        back.disconnect()
        #expect(mine.acknowledge())
        mine.unmask()
        let again = try host.domain(0).bindChannel(remote: DomainID(1), port: mine.port)
        #expect(again.acknowledge())
        again.unmask()
        again.notify()
        #expect(mine.acknowledge())
        theirs.notify()
        theirs.close()
        #expect(host.usage.ports == 2)
    }

    @Test func L11_notificationsAreLostAndDoubledOnDemand() throws {
        let front = host.domain(1), back = host.domain(0)
        let mine = try front.allocateChannel(for: .zero)
        let theirs = try back.bindChannel(remote: DomainID(1), port: mine.port)
        theirs.acknowledge()
        theirs.unmask()
        host.dropNotifications(every: 2)
        var seen = 0
        for _ in 0..<10 {
            mine.notify()
            if theirs.acknowledge() { seen += 1 }
            theirs.unmask()
        }
        #expect(seen == 5)
        host.dropNotifications(every: nil)
        host.duplicateNotifications(true)
        theirs.acknowledge()
        mine.notify()
        // Masked, and yet the bell rings.
        #expect(try waitReadable(theirs.descriptor.rawValue, milliseconds: 0))
    }

    @Test func theStoreKnowsTheDomain() throws {
        let front = host.domain(1), back = host.domain(0)
        let tools = try back.connectStore()
        try tools.write("/local/domain/1/name", "guest")
        try tools.setPermissions("/local/domain/1/name", [StorePermission(.none, DomainID(1))])
        #expect(try front.connectStore().read("name") == "guest")
    }
}
