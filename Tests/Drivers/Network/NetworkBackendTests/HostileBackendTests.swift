// Backends that lie, row by row of the attack list: the frame is dropped, or the interface closes and says why; nothing
// traps.

import Hypervisor
import LinuxSystem
import MockPeers
import NetworkFrontend
import NetworkProtocol
import SharedMemory
import SharedRing
import Synchronization
import Testing
import TestSupport
import Toolstack

@Suite(.timeLimit(.minutes(2)), .serialized)
struct HostileBackendTests {
    private func response(_ status: Int, offset: Int = 0, flags: ReceiveFlags = [], idOffset: UInt16 = 0) -> (ReceiveRequest) ->
        ReceiveSlot
    {
        { ReceiveSlot(ReceiveResponse(id: $0.id &+ idOffset, offset: UInt16(offset), flags: flags, status: Int16(status))) }
    }

    @Test func C9_C10_C20_framesThatMakeNoSenseAreDropped() throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        for first in 0..<14 { try raw.give([response(first, flags: .moreData), response(100)]) }
        for (status, offset) in [(-1, 0), (-32768, 0), (4097, 0), (100, 4000), (1, 4096), (1, 65_535), (32_767, 0)] {
            try raw.give([response(status, offset: offset)])
        }
        try raw.give([response(100, idOffset: 1)])
        for count in [18, 30, 64] {
            try raw.give((0..<count).map { response(100, flags: $0 + 1 < count ? .moreData : []) })
        }
        // In as many slots as there may be, and longer than a frame.
        try raw.give((0..<17).map { response(4096, flags: $0 < 16 ? .moreData : []) })
        for type: UInt64 in [0, 3, 255] {
            try raw.give([
                response(100, flags: .extraInfo),
                { _ in
                    var extra = ExtraInfo(segmenting: .tcp4, size: 0)
                    extra.word |= type << 32
                    return ReceiveSlot(extra)
                },
            ])
        }
        // Marked for work that does not fit.
        try raw.give([response(100, flags: .checksumBlank)])
        #expect(eventually { pair.frontend.statistics[0].receiveDropped == 14 + 7 + 1 + 4 + 3 + 1 })
        #expect(try pair.wire.receive(milliseconds: 20) == nil)
        #expect(try pair.serves())
        pair.end()
    }

    /// Every page is posted again, however its frame ended (attacks.md C6, C10).
    @Test func C6_pagesComeBack() throws {
        let pair = try MockBackendPair()
        let raw = pair.backend
        for round in 0..<600 {
            if round % 3 == 0 { try raw.give([response(-1)]) } else { try raw.give([response(5, flags: .moreData), response(9)]) }
        }
        #expect(try pair.serves())
        pair.end()
    }

    @Test func C13_C20_C21_liesAreTheEnd() throws {
        func dies(_ attack: (MockNetworkBackend, Wire) throws -> Void) throws {
            let pair = try MockBackendPair()
            let raw = pair.backend
            try attack(raw, pair.wire)
            #expect(eventually { pair.frontend.failure != nil })
            let text = pair.frontend.failure?.description ?? ""
            #expect(text.contains("broke the protocol"))
            #expect(try raw.store.state(of: raw.paths.frontendPath) != .connected)
            pair.end()
        }
        for lie: UInt32 in [257, 1 << 31, .max] {
            try dies { raw, wire in
                raw.receive.region.storeReleasing(lie, at: RingHeader.responseProduced)
                raw.ring()
            }
            try dies { raw, wire in
                raw.transmit.region.storeReleasing(lie, at: RingHeader.responseProduced)
                try wire.send(plainFrame(60))
            }
        }
        // Answers to what was never asked, and twice.
        for id: UInt16 in [200, 256, 65_535] {
            try dies { raw, wire in
                try wire.send(plainFrame(60))
                #expect(try eventually { try raw.transmit.nextRequest() != nil })
                raw.transmit.push(TransmitResponse(id: id, status: .okay))
                _ = raw.transmit.publish()
                try wire.send(plainFrame(60))
            }
        }
        // A chain that is not published to its end.
        try dies { raw, _ in try raw.give([response(100, flags: .moreData)]) }
        try dies { raw, _ in try raw.give([response(100, flags: .extraInfo), { _ in ReceiveSlot(ExtraInfo(word: 200)) }]) }
    }

    @Test func C22_aControlRingThatDoesNotAnswer() throws {
        let pair = try MockBackendPair(controlRing: true)
        #expect(pair.frontend.mappedPages == 0)
        #expect(try pair.serves())
        pair.end()
    }
}
