// Packets that are the end of an interface, and those that are only just not: sizes, lengths, extra information.

import DriverRuntime
import Foundation
import Hypervisor
import HypervisorRules
import LinuxSystem
import MockPeers
import NetworkBackend
import NetworkProtocol
import SharedMemory
import Testing
import TestSupport
import Toolstack
import XenTypes

extension HostileTransmitTests {
    /// A packet that is the end of an interface.
    struct Fatal: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var slots: [(offset: Int, size: Int, flags: UInt16)]
        var extras: [UInt64] = []
        var reason: String

        static let all = [
            Fatal(testDescription: "a slot that crosses its page", slots: [(4000, 100, 0)], reason: "cross a page"),
            Fatal(testDescription: "an offset outside the page", slots: [(65_535, 100, 0)], reason: "cross a page"),
            Fatal(
                testDescription: "a second slot that crosses its page", slots: [(0, 200, 4), (4095, 100, 0)], reason: "cross a page"
            ),
            Fatal(testDescription: "a packet that goes on", slots: [(0, 100, 4)], reason: "goes on"),
            Fatal(testDescription: "an extra that goes on", slots: [(0, 100, 8)], extras: [0x01_05DC_0101], reason: "goes on"),
            Fatal(testDescription: "an extra of no known type", slots: [(0, 100, 8)], extras: [77], reason: "type 77"),
            Fatal(testDescription: "an extra of type 0", slots: [(0, 100, 8)], extras: [0], reason: "type 0"),
            Fatal(
                testDescription: "the same extra twice", slots: [(0, 100, 8)], extras: [0x01_05DC_0101, 0x01_05DC_0001],
                reason: "twice"),
            Fatal(
                testDescription: "segments of no size", slots: [(0, 100, 8)], extras: [0x01_0000_0001],
                reason: "segments of 0 bytes"),
            Fatal(
                testDescription: "segmentation of no type", slots: [(0, 100, 8)], extras: [0x03_05DC_0001],
                reason: "segmentation of type 3"),
            Fatal(testDescription: "multicast with data", slots: [(0, 100, 12)], extras: [2], reason: "multicast"),
        ]
    }

    /// What ends an interface ends it here, too, and says why; each slot that was taken has its answer.
    @Test(arguments: Fatal.all) func B14_B23_B24_B25_whatIsTheEnd(_ packet: Fatal) throws {
        let (pair, raw) = try connected()
        let requests = packet.slots.enumerated().map { index, slot in
            raw.request(page: index, offset: slot.offset, size: slot.size, flags: TransmitFlags(rawValue: slot.flags), id: index)
        }
        raw.send([requests[0]] + packet.extras.map { TransmitSlot(ExtraInfo(word: $0)) } + requests.dropFirst())
        try raw.wait(for: [.closing])
        let text = try pair.backendError()
        #expect(text.contains(packet.reason))
        let answers = try raw.answers(packet.slots.count + packet.extras.count)
        #expect(answers.allSatisfy { $0.status == .error || $0.status == .null })
        #expect(try pair.backWire.receive(milliseconds: 10) == nil)
        // Another connection of the same interface is served.
        try raw.closeForAnother()
        let next = try MockNetworkFrontend(pair)
        try next.wait(for: [.connected])
        #expect(try pair.serves(next))
        try next.close()
        pair.backend.stop()
    }

    /// What is dropped is dropped whole, and the next packet is served.
    @Test func B25_sizesThatMakeNoSense() throws {
        let (pair, raw) = try connected()
        for size in 0..<14 {
            raw.send([raw.request(size: size)])
            #expect(try raw.answers(1)[0].status == .error)
        }
        // 64 KiB and 36 bytes, whose first size wrapped to 36: 17 slots, as real frontends have sent them.
        raw.send((0..<17).map { raw.request(page: $0, size: $0 == 0 ? 36 : 4096, flags: $0 < 16 ? .moreData : [], id: $0) })
        #expect(try raw.answers(17).allSatisfy { $0.status == .error })
        raw.send([raw.request(size: 300, flags: .moreData), raw.request(page: 1, size: 301, id: 1)])
        #expect(try raw.answers(2).allSatisfy { $0.status == .error })
        #expect(try pair.backWire.receive(milliseconds: 10) == nil)
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    /// Segmentation and checksums: whatever the marks and lengths say, the wire's header stays within the frame.
    @Test func B24_lyingLengths() throws {
        let (pair, raw) = try connected()
        let honest = TestFrame(version: 4, transport: .tcp, payload: 2000).bytes
        // Total length, header length, data offset, fragment offset; each at its edges.
        for (place, values) in [
            (16, [0, 0x13, 0x14, 0xFFFF]), (14, [0x4000, 0x4500, 0x4F00, 0x6500]), (46, [0x0010, 0x4F10, 0xF010]),
            (20, [1, 0x2000]),
        ] {
            for value in values {
                var frame = honest
                frame[place] = UInt8(value >> 8)
                frame[place + 1] = UInt8(value & 0xFF)
                for size in [54, 60, 200, frame.count] {
                    raw.data.region.write(frame, at: 0)
                    raw.send([
                        raw.request(size: size, flags: [.checksumBlank, .extraInfo]),
                        TransmitSlot(ExtraInfo(segmenting: .tcp4, size: 1448)),
                    ])
                    let status = try raw.answers(2)[0].status
                    guard status == .okay else { continue }
                    let got = try #require(try pair.backWire.receive())
                    let word = { (at: Int) in Int(got.header[at]) | Int(got.header[at + 1]) << 8 }
                    #expect(got.frame.count == size)
                    #expect(word(6) + word(8) + 2 <= size, "the checksum's field at \(word(6)) + \(word(8)) of \(size)")
                    #expect(word(2) <= size && (got.header[1] == 0) == (word(4) == 0))
                }
            }
        }
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    /// A short frame leaves as short as it came; nothing of an earlier, longer one is behind it.
    @Test func B32_shortFramesAreNotPadded() throws {
        let (pair, raw) = try connected()
        raw.data.region.fill(0, count: 4096, with: 0xEE)
        raw.send([raw.request(size: 4096)])
        _ = try raw.answers(1)
        _ = try pair.backWire.receive()
        for size in [14, 20, 59] {
            let frame = plainFrame(size, seed: size)
            raw.data.region.write(frame, at: 4096)
            raw.send([raw.request(page: 1, size: size)])
            _ = try raw.answers(1)
            expectSame(try pair.backWire.receive()?.frame ?? [], frame)
            raw.data.region.fill(5 * 4096, count: 4096, with: 0x5A)
            raw.post([5])
            try pair.backWire.send(frame)
            #expect(try raw.received().response.status == Int16(size))
            expectSame(raw.data.region.bytes(at: 5 * 4096, count: 4096), frame + [UInt8](repeating: 0x5A, count: 4096 - size))
        }
        try raw.close()
        pair.backend.stop()
    }
}
