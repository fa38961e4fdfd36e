// A connection without a thread, as Xen's libraries use it: what it grants, maps, rings and leaves behind.

import Hypervisor
import HypervisorRules
import LinuxSystem
@testable import Loopback
import SharedMemory
import Testing
import TestSupport
import XenTypes

@Suite(.timeLimit(.minutes(1))) struct LinkTests {
    let host: TestHost
    let before: HypervisorUsage

    init() throws {
        host = try TestHost()
        _ = try host.control.createDomain(DomainID(1))
        // The socket that came with it is closed, and the daemon has heard so.
        let host = host
        guard try eventually(5000, { try host.usage.connections == 0 && host.usage.dying == 0 }) else {
            throw LinkFailure(.busy, "the domain's socket is still there")
        }
        before = try host.usage
    }

    private func link(_ domain: UInt16) throws -> LoopbackLink {
        try LoopbackLink(runDirectory: host.directory, domain: DomainID(domain), time: .system)
    }

    private func page(_ link: LoopbackLink, _ reference: GrantReference, _ access: GrantAccess = .readWrite) throws -> LinkedPage {
        try #require(try link.map([reference], of: DomainID(1), access: access).first).get()
    }

    @Test func pagesAreSeenByBothAndGoBackToTheBaseline() throws {
        do {
            let (one, zero) = (try link(1), try link(0))
            let share = try one.share(3, with: .zero, access: .readWrite)
            let pages = try zero.map(share.references, of: DomainID(1), access: .readWrite).map { try $0.get() }
            let region = try zero.region(of: pages[2])
            region.store(UInt32(7), at: pages[2].offset)
            #expect(share.region.load(8192, as: UInt32.self) == 7)
            // A run's descriptor is not kept once it is mapped.
            #expect(zero.state.withLock { $0.runs.values.allSatisfy { $0.descriptor == nil } })
            one.retire(share)
            #expect(one.state.withLock { $0.deferred.count } == 1)
            zero.unmap(pages)
            // The references come back when the notice is heard, not before.
            #expect(try eventually(5000) { try host.usage.deferred == 0 })
            one.hear()
            #expect(one.state.withLock { $0.deferred.isEmpty && $0.table.freeCount == 504 })
            zero.hear()
            #expect(zero.state.withLock { $0.runs.isEmpty })
        }
        #expect(try host.settles(at: before))
    }

    @Test(arguments: [true, false]) func GT34_aKilledMapperOrGranterIsSeenByItsPeer(mapperDies: Bool) throws {
        do {
            var (one, zero): (LoopbackLink?, LoopbackLink?) = (try link(1), try link(0))
            let offered = try #require(one).allocatePort(for: .zero)
            let bound = try #require(zero).bindPort(remote: DomainID(1), port: offered.number)
            let share = try #require(one).share(1, with: .zero, access: .readWrite, notice: (byte: 9, port: offered.number))
            let mapped = try page(try #require(zero), share.references[0])
            let region = try #require(zero).region(of: mapped)
            try #require(zero).noticeUnmap(of: mapped, byte: 4, port: bound.number)
            for byte in [4, 9] { share.region.store(UInt8(1), at: byte) }
            drainPipe(bound.bell)
            if mapperDies { zero = nil } else { one = nil }
            // The port rings after the byte was cleared: whoever wakes and looks sees it.
            let (survivor, view) = mapperDies ? (offered, share.region) : (bound, region)
            #expect(try waitReadable(survivor.bell.rawValue, milliseconds: 5000))
            #expect(view.load(mapperDies ? 4 : 9, as: UInt8.self) == 0)
            #expect(view.load(mapperDies ? 9 : 4, as: UInt8.self) == 1, "the survivor's own stays")
            if mapperDies { one?.retire(share) } else { zero?.unmap([mapped]) }
            withExtendedLifetime((one, zero)) {}
        }
        #expect(try host.settles(at: before))
    }

    @Test func GT35_aSealedRunsByteIsForWhoeverAskedBeforeTheSeal() throws {
        let (one, zero) = (try link(1), try link(0))
        let share = try one.share(2, with: .zero, access: .readOnly, notice: (byte: 5, port: nil))
        share.region.store(UInt8(1), at: 5)
        let mapped = try page(zero, share.references[0], .readOnly)
        let region = try zero.region(of: mapped)
        #expect(region.load(5, as: UInt8.self) == 1)
        // After the seals the daemon has no way to the page either, and says so; what was asked for stays.
        let late = #expect(throws: LinkFailure.self) {
            try one.done(.noticeRetire(share.run, page: 0, EndOrder(byte: 6)))
        }
        #expect(late?.error == .invalidArgument)
        #expect(throws: LinkFailure.self) { try one.done(.noticeRetire(share.run, page: 2, EndOrder(byte: 6))) }
        #expect(throws: LinkFailure.self) { try zero.noticeUnmap(of: mapped, byte: 1, port: nil) }
        #expect(throws: LinkFailure.self) { try zero.done(.noticeRetire(share.run, page: 0, EndOrder())) }
        one.retire(share)
        #expect(region.load(5, as: UInt8.self) == 0)
        zero.unmap([mapped])
    }

    @Test func GT36_domainZeroReadsAPageThatItWasNotGrantedAndOthersDoNot() throws {
        _ = try host.control.createDomain(DomainID(2))
        let (one, zero, two) = (try link(1), try link(0), try link(2))
        let share = try one.share(2, with: DomainID(2), access: .readWrite)
        share.region.store(UInt32(99), at: 4096)
        let frame = share.firstFrame
        let page = try #require(try zero.mapForeign([frame + 1], of: DomainID(1), access: .readWrite).first).get()
        #expect(try zero.region(of: page).load(page.offset, as: UInt32.self) == 99)
        let refused = try two.mapForeign([frame], of: DomainID(1), access: .readOnly)
        guard case .failure(.permissionDenied)? = refused.first else { throw LinkFailure(.ioError, "\(refused)") }
        #expect(try host.usage.mappings == 1)
        one.retire(share)
        #expect(try host.usage.deferred == 1)
        zero.unmap([page])
        #expect(try eventually(5000) { try host.usage.deferred == 0 && host.usage.mappings == 0 })
    }

    @Test func aRingFindsWhoeverBoundLast() throws {
        let (one, zero) = (try link(1), try link(0))
        let offered = try one.allocatePort(for: .zero)
        // Nobody there: dropped, and nothing ends this process.
        offered.ring(hearing: one)
        for _ in 0..<3 {
            let bound = try zero.bindPort(remote: DomainID(1), port: offered.number)
            #expect(drainPipe(bound.bell), "rung from the start")
            offered.ring(hearing: one)
            #expect(try waitReadable(bound.bell.rawValue, milliseconds: 1000))
            zero.close(bound)
            #expect(try waitReadable(offered.bell.rawValue, milliseconds: 1000))
            drainPipe(offered.bell)
        }
        one.close(offered)
        #expect(try eventually(5000) { try host.usage.ports == 0 })
    }

    @Test func whatAToolstackAsksIsForDomainZero() throws {
        let (one, zero) = (try link(1), try link(0))
        #expect(try zero.describeDomains(from: .zero).map(\.domain) == [.zero, DomainID(1)])
        #expect(try zero.describeDomains(from: DomainID(2)).isEmpty)
        #expect(throws: LinkFailure.self) { _ = try one.describeDomains(from: .zero) }
        let port = try one.allocatePort(for: .zero)
        #expect(try zero.status(of: port.number, in: DomainID(1)) == .unbound(.zero))
        #expect(try one.status(of: port.number, in: DomainID(1)) == .unbound(.zero))
        #expect(throws: LinkFailure.self) { _ = try one.status(of: port.number, in: .zero) }
        #expect(throws: LinkFailure.self) { _ = try zero.status(of: EventPort(100_000), in: .zero) }
        #expect(throws: LinkFailure.self) { try one.destroy(DomainID(1)) }
        let heard = try zero.bindVirtual(.domainException)
        try zero.destroy(DomainID(1))
        #expect(try waitReadable(heard.bell.rawValue, milliseconds: 5000))
        #expect(throws: LinkFailure.self) { _ = try one.allocatePort(for: .zero) }
    }

    @Test func aDomainsStoreSocketIsThereForAsLongAsTheDomain() throws {
        let path = LoopbackHost.storePath(in: host.directory, domain: DomainID(1))
        #expect(FileSystem.isSocket(path))
        try host.control.destroyDomain(DomainID(1))
        #expect(!FileSystem.exists(path) && !FileSystem.exists("\(host.directory)/domain/1"))
        // Under the same number again.
        #expect(eventually(5000) { (try? host.control.createDomain(DomainID(1))) != nil })
        #expect(FileSystem.isSocket(path))
    }

    @Test func aUUIDIsReadFromItsPathAndNothingElse() {
        let uuid = DomainDescription.UUIDBytes(path: "/vm/00112233-4455-6677-8899-aabbccddeeff")
        #expect(uuid.bytes == [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF])
        for text in ["", "/vm/1", "/vm/0011223-44455-6677-8899-aabbccddeefg", "/vm/" + String(repeating: "é", count: 36)] {
            #expect(DomainDescription.UUIDBytes(path: text).bytes == Array(repeating: 0, count: 16))
        }
    }
}
