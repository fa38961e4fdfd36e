// Backends that lie, row by row of the attack list: the frame is dropped, or the interface closes and says why; nothing traps.

import Hypervisor
import HostDevices
import InProcessHypervisor
import LinuxSystem
import NetworkFrontend
import SharedMemory
import SharedRing
import Synchronization
import Testing
import Toolstack
import XenBus
import XenStore
import XenWire

@Suite(.timeLimit(.minutes(2)), .serialized)
struct HostileBackendTests {
    private func response(_ status: Int, offset: Int = 0, flags: ReceiveFlags = [], idOffset: UInt16 = 0) -> (ReceiveRequest) ->
        ReceiveSlot
    {
        { ReceiveSlot(ReceiveResponse(id: $0.id &+ idOffset, offset: UInt16(offset), flags: flags, status: Int16(status))) }
    }

    @Test func C9_C10_C20_framesThatMakeNoSenseAreDropped() throws {
        let raw = try RawBackend()
        for first in 0..<14 { try raw.give([response(first, flags: .moreData), response(100)]) }
        for (status, offset) in [(-1, 0), (-32768, 0), (4097, 0), (100, 4000), (1, 4096), (1, 65_535), (32_767, 0)] {
            try raw.give([response(status, offset: offset)])
        }
        try raw.give([response(100, idOffset: 1)])
        for count in [18, 30, 64] {
            try raw.give((0..<count).map { response(100, flags: $0 + 1 < count ? .moreData : []) })
        }
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
        #expect(eventually { raw.frontend.statistics[0].receiveDropped == 14 + 7 + 1 + 3 + 3 + 1 })
        #expect(try raw.wire.receive(milliseconds: 20) == nil)
        #expect(try raw.serves())
        raw.end()
    }

    /// Every page is posted again, however its frame ended (C6, C10).
    @Test func C6_pagesComeBack() throws {
        let raw = try RawBackend()
        for round in 0..<600 {
            if round % 3 == 0 { try raw.give([response(-1)]) } else { try raw.give([response(5, flags: .moreData), response(9)]) }
        }
        #expect(try raw.serves())
        raw.end()
    }

    @Test func C13_C20_C21_liesAreTheEnd() throws {
        func dies(_ attack: (RawBackend) throws -> Void) throws {
            let raw = try RawBackend()
            try attack(raw)
            #expect(eventually { raw.frontend.failure != nil })
            let text = raw.frontend.failure?.description ?? ""
            #expect(text.contains("broke the protocol"))
            #expect(try raw.store.state(of: raw.paths.frontendPath) != .connected)
            raw.end()
        }
        for lie: UInt32 in [257, 1 << 31, .max] {
            try dies { raw in
                raw.receive.region.storeReleasing(lie, at: RingHeader.responseProduced)
                raw.ring()
            }
            try dies { raw in
                raw.transmit.region.storeReleasing(lie, at: RingHeader.responseProduced)
                try raw.wire.send(plainFrame(60))
            }
        }
        // Answers to what was never asked, and twice.
        for id: UInt16 in [200, 256, 65_535] {
            try dies { raw in
                try raw.wire.send(plainFrame(60))
                #expect(try eventually { try raw.transmit.nextRequest() != nil })
                raw.transmit.push(TransmitResponse(id: id, status: .okay))
                _ = raw.transmit.publish()
                try raw.wire.send(plainFrame(60))
            }
        }
        // A chain that is not published to its end.
        try dies { try $0.give([response(100, flags: .moreData)]) }
        try dies { try $0.give([response(100, flags: .extraInfo), { _ in ReceiveSlot(ExtraInfo(word: 200)) }]) }
    }

    @Test func C22_aControlRingThatDoesNotAnswer() throws {
        let raw = try RawBackend(controlRing: true)
        #expect(raw.frontend.mappedPages == 0)
        #expect(try raw.serves())
        raw.end()
    }
}
