// What a backend can see, keep and write of a frontend's memory: the pages made for it, and of those no more than the
// frames in them.

import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
import NetworkFrontend
import NetworkProtocol
import SharedMemory
import TestHosts
import Testing
import TestSupport
import XenTypes

@Suite(.timeLimit(.minutes(2)), .serialized)
struct HostileBackendPageTests {
    /// A backend that keeps what it mapped: the frontend ends in time, the pages outlive it as long as they are mapped,
    /// and nobody else gets them.
    @Test(.inProcess("through Xen's libraries a mapping ends with its last reference"))
    func C1_pagesThatTheBackendKeeps() throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        let idle = pair.host.usage
        try pair.wire.send(plainFrame(100, seed: 1))
        let request = try #require(try raw.sent()).request
        let page = try raw.posted()
        let kept =
            try raw.hypervisor.mapGrants([request.reference], of: DomainID(1), access: .readOnly)
            + raw.hypervisor.mapGrants([page.reference], of: DomainID(1), access: .readWrite)
        // Answered, and still mapped.
        raw.answer(request.id)
        raw.receive.push(ReceiveSlot(ReceiveResponse(id: page.id, status: -1)))
        #expect(try pair.serves())
        try raw.say("6")
        let start = monotonicMilliseconds()
        pair.frontend.close()
        #expect(monotonicMilliseconds() - start < 1000)
        raw.letGo()
        expectSame(
            kept[0].region.bytes(at: kept[0].offset, count: 100), plainFrame(100, seed: 1),
            "the page is there as long as it is mapped")
        kept[1].region.fill(kept[1].offset, count: 4096, with: 0xEE)
        // The next interface of this domain has pages of its own.
        let offer = try pair.host.domain(1).offerPages(600, to: .zero, access: .readWrite)
        #expect(offer.region.bytes(at: 0, count: 600 * 4096).allSatisfy { $0 == 0 })
        offer.withdraw()
        #expect(pair.host.usage.mappings >= 2)
        raw.hypervisor.unmapGrants(kept)
        #expect(eventually { pair.host.usage.mappings == 0 && pair.host.usage.grants == 0 }, "\(pair.host.usage)")
        #expect(pair.host.usage.mappings < idle.mappings)
        raw.store.close()
    }

    /// Everything that a backend can map is zero, but for the bytes of frames that were meant for it: with any word of
    /// the toolstack's on whether it is trusted, and whatever the backend says itself.
    @Test(arguments: [nil, "0", "1", "junk"] as [String?]) func C2_C3_nothingButFramesIsShown(_ trusted: String?) throws {
        let pair = try MockBackendPair(trusted: trusted)
        let raw = pair.backend
        try raw.store.write(raw.paths.backendPath + "/trusted", "1")
        try raw.store.write(raw.paths.backendPath + "/feature-persistent", "1")
        // Memory of this process that has held something.
        let canary = [UInt8](repeating: 0xC7, count: 64)
        for _ in 0..<200 { _ = try SharedRegion(anonymous: 4096).write(canary, at: 0) }
        var shown: [UInt32: [UInt8]] = [:]
        for seed in 0..<30 {
            let frame = plainFrame(60 + seed * 37, seed: seed)
            try pair.wire.send(frame)
            shown[try #require(try raw.sent()).request.reference.rawValue] = frame
        }
        // Every grant there is: references are small numbers.
        var seen = 0
        for reference in UInt32(0)..<2048 {
            guard let grant = try? raw.hypervisor.mapGrants([GrantReference(reference)], of: DomainID(1), access: .readOnly).first
            else { continue }
            seen += 1
            let bytes = grant.region.bytes(at: grant.offset, count: 4096)
            if let frame = shown[reference] {
                expectSame(bytes, frame + [UInt8](repeating: 0, count: 4096 - frame.count), "page \(reference)")
            } else {
                let isRing =
                    raw.keys.map { [$0.queues[0].transmit, $0.queues[0].receive].contains(GrantReference(reference)) } ?? false
                #expect(isRing || bytes.allSatisfy { $0 == 0 }, "page \(reference)")
            }
            raw.hypervisor.unmapGrants([grant])
        }
        #expect(seen >= 2 + 512 && shown.count == 30)
        pair.end()
    }

    /// Every kind of error on the receive ring, then all of them at once: each page is on the ring exactly once.
    @Test func C4_everyPageHasOneOwner() throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        func response(_ status: Int, _ offset: Int = 0, _ flags: ReceiveFlags = [], _ shift: UInt16 = 0) -> (ReceiveRequest) ->
            ReceiveSlot
        {
            { ReceiveSlot(ReceiveResponse(id: $0.id &+ shift, offset: UInt16(offset), flags: flags, status: Int16(status))) }
        }
        let extra: (ReceiveRequest) -> ReceiveSlot = { _ in ReceiveSlot(ExtraInfo(segmenting: .tcp4, size: 0)) }
        let kinds: [[(ReceiveRequest) -> ReceiveSlot]] = [
            [response(-1)], [response(0)], [response(5000)], [response(100, 4000)], [response(100, 0, [], 7)],
            [response(10, 0, .moreData), response(50)], [response(100, 0, .moreData), response(-1)],
            [response(100, 0, .extraInfo), extra], [response(100, 0, [.extraInfo, .moreData]), extra, response(0)],
            [response(100, 0, .checksumBlank)], (0..<40).map { response(100, 0, $0 < 39 ? .moreData : []) },
        ]
        for round in 0..<soak(10) {
            for kind in kinds { try raw.give(kind) }
            #expect(try pair.serves(seed: round))
            var references = Set<UInt32>()
            var ids = Set<UInt16>()
            var taken: [ReceiveRequest] = []
            for _ in 0..<256 { taken.append(try raw.posted()) }
            for request in taken {
                references.insert(request.reference.rawValue)
                ids.insert(request.id)
            }
            #expect(references.count == 256 && ids.count == 256)
            let more = try raw.receive.nextRequest()
            #expect(more == nil)
            for request in taken { raw.receive.push(ReceiveSlot(ReceiveResponse(id: request.id, status: -1))) }
            _ = raw.receive.publish()
            raw.ring()
        }
        pair.end()
    }

    /// A frame that changes while it is delivered: what the header before it says fits the bytes behind it, whichever
    /// they are.
    @Test func C16_framesThatChangeWhileTheyAreRead() throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        let frame = TestFrame(version: 4, transport: .tcp, payload: 400)
        for round in 0..<soak(300) {
            let page = try raw.posted()
            let mapped = try raw.hypervisor.mapGrants([page.reference], of: DomainID(1), access: .readWrite)
            mapped[0].region.write(frame.bytes, at: mapped[0].offset)
            // The words that hold the header's length, and the protocol: TCP or UDP.
            let first = frame.bytes[12..<16].enumerated().reduce(UInt32(0)) { $0 | UInt32($1.element) << (8 * UInt32($1.offset)) }
            let racer = try Racer(
                mapped[0].region, target: mapped[0].offset + 12,
                [[first, first & 0xFF00_FFFF | 0x0047_0000], [0x0100_0000, 0x0100_0001]])
            let protocolRacer = try Racer(mapped[0].region, target: mapped[0].offset + 20, [[0x0640_0000, 0x1140_0000]])
            raw.receive.push(ReceiveSlot(ReceiveResponse(id: page.id, flags: .checksumBlank, status: Int16(frame.bytes.count))))
            _ = raw.receive.publish()
            raw.ring()
            let got = try pair.wire.receive(milliseconds: 200)
            racer.stop()
            protocolRacer.stop()
            raw.hypervisor.unmapGrants(mapped)
            guard let got else { continue }
            let start = 14 + Int(got.frame[14] & 15) * 4
            let field = got.frame[23] == 6 ? 16 : 6
            #expect(
                Array(got.header) == [1, 0, 0, 0, 0, 0, UInt8(start), 0, UInt8(field), 0], "round \(round): \(got.frame[12..<24])")
        }
        #expect(try pair.serves())
        pair.end()
    }

    /// Pages for frames that go out can be read and no more.
    @Test func C17_pagesOnTheirWayOutCannotBeWritten() throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        try pair.wire.send(plainFrame(100, seed: 1))
        let request = try #require(try raw.sent()).request
        #expect(throws: HypervisorError.self) {
            try raw.hypervisor.mapGrants([request.reference], of: DomainID(1), access: .readWrite)
        }
        let page = try SharedRegion(anonymous: 4096)
        let copy = GrantCopy(
            source: .local(page, offset: 0), destination: .grant(request.reference, of: DomainID(1), offset: 0), byteCount: 60)
        #expect(try raw.hypervisor.copyGrants([copy]) != [.okay])
        let mapped = try raw.hypervisor.mapGrants([request.reference], of: DomainID(1), access: .readOnly)
        #expect(!mapped[0].region.isWritable)
        raw.hypervisor.unmapGrants(mapped)
        raw.answer(request.id)
        #expect(try pair.serves())
        pair.end()
    }
}
