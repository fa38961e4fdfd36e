// Frontends and wires that lie in what they send, row by row of the attack list (section B): an error for that packet or quarantine of
// that interface, and service goes on.

import Foundation
import HostDevices
import Hypervisor
import InProcessHypervisor
import LinuxSystem
import NetworkBackend
import Packets
import SharedMemory
import SharedRing
import Synchronization
import TestSupport
import Testing
import XenBus
import XenWire

/// A pair and a hostile frontend that is connected.
func connectedRaw(_ options: NetworkBackendOptions = .init(), keys: [String: String] = [:]) throws -> (NetworkPair, RawVif) {
    let pair = try NetworkPair(options)
    let raw = try RawVif(pair, keys: keys)
    try raw.wait(for: [.connected])
    return (pair, raw)
}

/// A thread that does something again and again until it is stopped.
final class Pest: Sendable {
    private let done = Flag()
    private let thread: Mutex<WorkerThread?>
    init(_ work: @escaping @Sendable () -> Void) throws {
        let done = done
        thread = Mutex(try WorkerThread(name: "pest") { while !done.isSet { work() } })
    }
    func stop() {
        done.set()
        thread.withLock { $0.take() }?.join()
    }
}

@Suite(.timeLimit(.minutes(2)), .serialized)
struct HostileDataTests {
    /// XSA-155: a slot that changes while it is taken. What was decided on a size and what is sent are the same size: either 60 bytes, or
    /// 100, or an error for one that would cross its page; nothing else.
    @Test func B4_slotsThatChangeWhileTheyAreTaken() throws {
        let (pair, raw) = try connectedRaw()
        for page in 0..<2 { raw.data.region.write(plainFrame(200, seed: 3), at: page * 4096) }
        let region = raw.transmitPage.region
        // Sizes and ids of every slot, all the time: the word behind reference, offset and flags.
        let pest = try Pest {
            for slot in 0..<256 {
                region.storeRelaxed(60 << 16 | 5, at: 64 + 12 * slot + 8)
                region.storeRelaxed(100 << 16 | 5, at: 64 + 12 * slot + 8)
                region.storeRelaxed(13 << 16 | 5, at: 64 + 12 * slot + 8)
            }
        }
        var sizes: [Int: Int] = [:]
        for _ in 0..<2000 {
            raw.send([raw.request(size: 60, id: 5)])
            let answer = try raw.answers(1)[0]
            // The answer's bytes are the first four of a slot; the pest writes the last four only.
            #expect(answer.id == 5)
            if answer.status == .okay {
                let frame = try #require(try pair.backWire.receive()?.frame)
                sizes[frame.count, default: 0] += 1
                #expect(frame == Array(plainFrame(200, seed: 3)[..<frame.count]))
            } else {
                #expect(answer.status == .error)
                sizes[13, default: 0] += 1
            }
        }
        pest.stop()
        #expect(Set(sizes.keys).isSubset(of: [13, 60, 100]))
        #expect(sizes.count > 1, "the pest ran")
        #expect(try raw.isServed())
        try raw.close()
        pair.backend.stop()
    }

    /// The same for the bytes of a header in a page that stays mapped: what the device is told of a frame fits the frame that it gets.
    @Test func B4_headersThatChangeWhileTheyAreRead() throws {
        let (pair, raw) = try connectedRaw()
        let list = raw.data.references[60].rawValue
        raw.data.region.store(GrantMappingEntry(reference: raw.data.references[0], isReadOnly: false).word, at: 60 * 4096)
        #expect(try raw.ask(9, 0, list, 1).status == .success)
        var udp = [UInt8](repeating: 0, count: 100)
        udp[12] = 8
        udp[14] = 0x45
        udp[17] = 86
        udp[23] = 17
        raw.data.region.write(udp, at: 0)
        let region = raw.data.region
        // The header's length flips between 20, 24 and 60 bytes, which do not fit.
        let pest = try Pest { for byte: UInt8 in [0x45, 0x46, 0x4F] { region.store(byte, at: 14) } }
        var starts: Set<Int> = []
        for _ in 0..<2000 {
            raw.send([raw.request(size: 100, flags: .checksumBlank)])
            guard try raw.answers(1)[0].status == .okay else { continue }
            let (header, frame) = try #require(try pair.backWire.receive())
            let start = Int(header[6]) | Int(header[7]) << 8
            starts.insert(start)
            #expect(start == 14 + 4 * Int(frame[14] & 15))
            #expect(start + 8 <= frame.count)
        }
        pest.stop()
        #expect(starts.count > 1, "the pest ran")
        try raw.close()
        pair.backend.stop()
    }

    /// XSA-432: packets of very many very small slots. Each arrives as it was sent.
    @Test func B13_packetsOfSmallParts() throws {
        let (pair, raw) = try connectedRaw()
        for round in 0..<600 {
            let total = round < 200 ? 14 + round % 12 : Int.random(in: 14...256)
            var cuts = Set<Int>()
            let count = min(Int.random(in: 1...18), total)
            while cuts.count < count - 1 { cuts.insert(Int.random(in: 1..<total)) }
            let edges = [0] + cuts.sorted() + [total]
            let frame = plainFrame(total, seed: round)
            var slots: [TransmitSlot] = []
            for index in 0..<count {
                let part = Array(frame[edges[index]..<edges[index + 1]])
                // At the page's very end, so that a byte too many would be another page's.
                let offset = round % 2 == 0 ? 0 : 4096 - part.count
                raw.data.region.write(part, at: index * 4096 + offset)
                slots.append(
                    raw.request(
                        page: index, offset: offset, size: index == 0 ? total : part.count, flags: index + 1 < count ? .moreData : [],
                        id: index))
            }
            raw.send(slots)
            #expect(try raw.answers(count).allSatisfy { $0.status == .okay })
            expectSame(try pair.backWire.receive()?.frame ?? [], frame)
        }
        try raw.close()
        pair.backend.stop()
    }

    /// Every composition of a head of up to 14 bytes, in guarded memory: no byte more is written than the head has.
    @Test func B13_everyCompositionOfAHead() throws {
        let source = try SharedRegion(anonymous: 4096)
        let target = try SharedRegion(anonymous: 4096)
        source.write((0..<64).map { UInt8($0) }, at: 0)
        var pieces = FramePieces()
        for total in 1...14 {
            for cuts in 0..<(1 << (total - 1)) {
                pieces.removeAll()
                var start = 0
                for end in 1...total where end == total || cuts >> (end - 1) & 1 == 1 {
                    pieces.append(source, start, end - start)
                    start = end
                }
                for wanted in [total, total - 1, total + 5] {
                    target.fill(0, count: 64, with: 0xEE)
                    let got = pieces.copyHead(wanted, to: target, at: 8)
                    if got != min(wanted, total) || target.bytes(at: 8, count: got) != (0..<got).map({ UInt8($0) })
                        || target.bytes(at: 8 + got, count: 16) != [UInt8](repeating: 0xEE, count: 16)
                        || target.bytes(at: 0, count: 8) != [UInt8](repeating: 0xEE, count: 8)
                    {
                        Issue.record("\(total) bytes, cuts \(cuts), \(wanted) wanted: \(got)")
                    }
                }
            }
        }
    }

    @Test func B28_receiveIdsAreEchoedAndTheIndexNeverGoesBack() throws {
        let (pair, raw) = try connectedRaw()
        for id: UInt16 in [7, 7, 7, 65_535] {
            _ = raw.receive.push(ReceiveRequest(id: id, reference: raw.data.references[1]))
        }
        if raw.receive.publish() { raw.bell.notify() }
        for (seed, id) in [UInt16(7), 7, 7, 65_535].enumerated() {
            try pair.backWire.send(plainFrame(70, seed: seed))
            let response = try raw.received().response
            #expect(response.id == id && response.status == 70)
        }
        raw.receivePage.region.storeReleasing(2, at: RingHeader.requestProduced)
        try pair.backWire.send(plainFrame(70))
        raw.bell.notify()
        try raw.wait(for: [.closing])
        #expect(try raw.error().contains("producer index"))
        try raw.close()
        pair.backend.stop()
    }

    /// B32: what lies behind a frame in the frontend's page is the frontend's; what a short frame is padded with, nobody's.
    @Test func B32_nothingOfOursIsInAPageButTheFrame() throws {
        let (pair, raw) = try connectedRaw()
        for round in 0..<100 {
            // A long frame first, so that buffers hold something to leak.
            raw.data.region.fill(0, count: 8192, with: 0xA5)
            raw.post([0, 1])
            try pair.backWire.send([UInt8](repeating: 0x11, count: 3000).enumerated().map { $0.offset == 12 ? 0x88 : $0.element })
            #expect(try raw.received().response.status == 3000)
            try pair.backWire.send(plainFrame(14, seed: round))
            #expect(try raw.received().response.status == 14)
            #expect(raw.data.region.bytes(at: 4096 + 14, count: 4082).allSatisfy { $0 == 0xA5 })
            #expect(raw.data.region.bytes(at: 3000, count: 1096).allSatisfy { $0 == 0xA5 })
            raw.data.region.write(plainFrame(14, seed: round), at: 8192)
            raw.send([raw.request(page: 2, size: 14)])
            #expect(try raw.answers(1)[0].status == .okay)
            expectSame(try pair.backWire.receive()?.frame ?? [], plainFrame(14, seed: round))
        }
        try raw.close()
        pair.backend.stop()
    }

    /// Headers that no device should write, a device that is full, and one that goes away.
    @Test func B33_wiresThatMisbehave() throws {
        let (pair, raw) = try connectedRaw()
        raw.post([0, 1, 2, 3])
        let frame = plainFrame(80)
        // UDP in segments, segments of no size, a checksum behind the end, headers longer than the frame, too short a frame.
        for header: [UInt8] in [
            [0, 3, 0, 0, 10, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF],
            [1, 0, 0, 0, 0, 0, 79, 0, 1, 0], [1, 1, 0xFF, 0xFF, 10, 0, 34, 0, 16, 0], [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        ] { try pair.backWire.send(frame, header: header) }
        for count in [0, 1, 13] { try pair.backWire.send(Array(frame[..<count])) }
        try pair.backWire.send(frame)
        #expect(try raw.received().response.status == 80)
        #expect(eventually { pair.backend.total.receiveDropped >= 8 })
        // Full: 400 packets of 4000 bytes are more than a socket of a few hundred datagrams holds. Nobody reads; nothing is lost.
        var sent = 0
        raw.data.region.write(plainFrame(4000, seed: 7), at: 5 * 4096)
        while sent < 120 {
            raw.send([raw.request(page: 5, size: 4000, id: sent)])
            sent += 1
        }
        for _ in 0..<sent { expectSame(try pair.backWire.receive()?.frame ?? [], plainFrame(4000, seed: 7)) }
        #expect(try raw.answers(sent).allSatisfy { $0.status == .okay })
        #expect(try raw.isServed())
        try raw.close()
        pair.backend.stop()
    }

    /// Rings for nothing, by the hundred thousand: the doorbell is answered more and more seldom, and what is real gets through.
    @Test func B34_eventsWithoutWork() throws {
        let (pair, raw) = try connectedRaw()
        let (bell, other) = (raw.bell, raw.controlBell)
        let pest = try Pest {
            for _ in 0..<100 {
                bell.notify()
                other.notify()
            }
        }
        usleep(1_000_000)
        // Work makes the counters current.
        #expect(try raw.isServed())
        let before = pair.backend.total.notificationsTaken
        usleep(1_000_000)
        #expect(try raw.isServed())
        #expect(pair.backend.total.notificationsTaken - before < 100)
        pest.stop()
        try raw.close()
        pair.backend.stop()
    }
}
