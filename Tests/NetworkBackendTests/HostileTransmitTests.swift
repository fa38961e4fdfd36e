// Packets that make no sense, on their way from a frontend: an error for the packet or the end of the interface, and nothing left behind.

import DriverSupport
import Foundation
import HypervisorCore
import Hypervisor
import InProcessHypervisor
import LinuxSystem
import NetworkBackend
import SharedMemory
import SharedRing
import TestSupport
import Testing
import Toolstack
import XenBus
import XenWire

@Suite(.timeLimit(.minutes(3)), .serialized)
struct HostileTransmitTests {
    private func connected(_ keys: [String: String] = [:], queues: Int = 1) throws -> (NetworkPair, RawVif) {
        let pair = try NetworkPair()
        let raw = try RawVif(pair, keys: keys, queues: queues)
        try raw.wait(for: [.connected])
        return (pair, raw)
    }

    /// An error in every slot of a packet in turn, again and again: nothing is kept of what came before it.
    @Test func B2_errorsInEverySlotLeaveNothing() throws {
        let (pair, raw) = try connected()
        _ = try raw.isServed()
        let baseline = (pair.host.usage, SharedRegion.liveCount, Descriptor.openCount)
        var memory = 0
        let rounds = soak(1500)
        for round in 0..<rounds {
            if round == rounds / 3 { memory = residentKilobytes() }
            var expected: [NetworkStatus] = []
            // Four packets of four slots: a bad reference or a part too large, in place 0, 1, 2, 3.
            for place in 0..<4 {
                var slots = (0..<4).map { index in
                    raw.request(page: index, size: index == 0 ? 400 : 100, flags: index < 3 ? .moreData : [], id: index).request
                }
                if round % 2 == 0 {
                    slots[place].reference = GrantReference(31_000)
                } else {
                    slots[place].size = place == 0 ? 10 : 4000
                }
                raw.send(slots.map { TransmitSlot($0) })
                expected += [.error, .error, .error, .error]
            }
            #expect(try raw.answers(16).map(\.status) == expected)
        }
        #expect(pair.host.usage == baseline.0)
        #expect(SharedRegion.liveCount == baseline.1 && Descriptor.openCount == baseline.2)
        #expect(residentKilobytes() - memory < 1024)
        #expect(try raw.isServed())
        try raw.close()
        pair.backend.stop()
    }

    /// The end of an interface comes from its rings' thread and waits for nothing: not for the control thread, which is busy here with another
    /// interface's device.
    @Test func B3_quarantineWaitsForNobody() throws {
        let gate = DispatchSemaphore(value: 0)
        let entered = DispatchSemaphore(value: 0)
        let pair = try NetworkPair(start: { host, device in
            let hypervisor = host.domain(0)
            return try RunningBackend(
                hypervisor, through: hypervisor,
                opener: { (settings) throws(DeviceOpenFailure) in
                    if settings.device.number == 2 {
                        entered.signal()
                        gate.wait()
                    }
                    return device
                })
        })
        let second = try pair.toolstack.create(VifSpecification(parsing: "mac=00:16:3e:01:02:04"), frontend: DomainID(1))
        let raw = try RawVif(pair)
        try raw.wait(for: [.connected])
        let neighbour = try RawVif(pair, paths: second)
        try neighbour.wait(for: [.connected])
        _ = try pair.toolstack.create(VifSpecification(parsing: "mac=00:16:3e:01:02:05"), frontend: DomainID(1))
        #expect(entered.wait(timeout: .now() + 5) == .success)
        // The control thread stands still from here on.
        raw.send([raw.request(offset: 4090, size: 100)])
        _ = try raw.answers(1)
        raw.data.region.write(plainFrame(77, seed: 3), at: 0)
        raw.send([raw.request(size: 77)])
        #expect(throws: TimedOut.self) { try raw.answers(1, milliseconds: 100) }
        #expect(try pair.backWire.receive(milliseconds: 0) == nil, "a packet after the one that was the end")
        #expect(try neighbour.isServed(), "another interface on the same thread")
        #expect(pair.backend.status.count == 2, "status is answered, too")
        #expect(try raw.state() == .connected)
        gate.signal()
        try raw.wait(for: [.closing])
        #expect(try raw.error().contains("cross a page"))
        try raw.close()
        try neighbour.close()
        pair.backend.stop()
    }

    /// A packet that ends the interface on any queue, and a frontend that leaves at any moment after it.
    @Test func B7_fatalPacketsAndDisconnects() throws {
        let pair = try NetworkPair()
        let baseline = pair.host.usage
        for round in 0..<soak(60) {
            let raw = try RawVif(pair, queues: 3)
            try raw.wait(for: [.connected])
            raw.send([raw.request(offset: 4090, size: 100)], queue: round % 3)
            usleep(UInt32(round * 17 % 1000))
            try raw.closeForAnother()
            if round % 10 == 9 { expectBaseline(pair.host, baseline) }
        }
        let raw = try RawVif(pair, queues: 3)
        try raw.wait(for: [.connected])
        for queue in 0..<3 { #expect(try raw.isServed(queue: queue)) }
        try raw.close()
        expectBaseline(pair.host, baseline)
        pair.backend.stop()
    }

    /// The n-th copy of a batch fails, for every n and in every way: its packet is refused, its neighbours are sent.
    @Test(arguments: [GrantStatus.badGrantReference, .permissionDenied, .tryAgain]) func B8_eachCopyThatFails(_ status: GrantStatus)
        throws
    {
        let (pair, raw) = try connected()
        let baseline = pair.host.usage
        for number in 1...12 {
            pair.host.failMap(number: number, with: status)
            // Six packets of two slots, published at once.
            raw.send(
                (0..<12).map { raw.request(page: $0, size: $0 % 2 == 0 ? 200 : 100, flags: $0 % 2 == 0 ? .moreData : [], id: $0) })
            let refused = try raw.answers(12).filter { $0.status == .error }.map { Int($0.id) }
            #expect(refused.sorted() == [(number - 1) / 2 * 2, (number - 1) / 2 * 2 + 1], "copy \(number)")
            for _ in 0..<5 { #expect(try pair.backWire.receive()?.frame.count == 200) }
        }
        #expect(try pair.backWire.receive(milliseconds: 10) == nil)
        // The same for pages that are to stay mapped.
        for number in 2...9 {
            pair.host.failMap(number: number, with: status)
            for page in 0..<8 {
                raw.data.region.store(
                    GrantMappingEntry(reference: raw.data.references[page], isReadOnly: false).word, at: 60 * 4096 + 8 * page)
            }
            let list = raw.data.references[60].rawValue
            #expect(try raw.ask(9, 0, list, 8).status == .invalidParameter)
            let failed = (0..<8).filter { GrantMappingEntry(word: raw.data.region.load(60 * 4096 + 8 * $0)).status != 0 }
            #expect(failed == [number - 2], "map \(number)")
            #expect(try raw.ask(10, 0, list, 8).status == .invalidParameter, "seven are given back, one was never there")
        }
        #expect(pair.host.usage == baseline)
        #expect(try raw.isServed())
        try raw.close()
        pair.backend.stop()
    }

    /// The call itself fails: every packet of the batch is refused, and the next batch is served.
    @Test func B8_callsThatFail() throws {
        let faults = Box<FaultyHypervisor>()
        let pair = try NetworkPair(start: { host, device in
            let inner = host.domain(0)
            let outer = FaultyHypervisor(inner)
            faults.value = outer
            return try RunningBackend(inner, through: outer, opener: { (_) throws(DeviceOpenFailure) in device })
        })
        let raw = try RawVif(pair)
        try raw.wait(for: [.connected])
        let baseline = pair.host.usage
        faults.value?.failCopies(true)
        raw.send((0..<20).map { raw.request(page: $0, size: 100, id: $0) })
        #expect(try raw.answers(20).allSatisfy { $0.status == .error })
        raw.post([1, 2])
        try pair.backWire.send(plainFrame(60))
        #expect(try raw.received().response.status == -1)
        faults.value?.failCopies(false)
        #expect(pair.host.usage == baseline)
        try pair.backWire.send(plainFrame(60))
        #expect(try raw.received().response.status == 60)
        #expect(try raw.isServed())
        try raw.close()
        pair.backend.stop()
    }

    /// Headers cut at every byte, and in slots of a byte each, reach the wire whole, with the checksum where the headers say.
    @Test(arguments: [false, true]) func B12_realHeadersCutAnywhere(mapped: Bool) throws {
        let (pair, raw) = try connected()
        if mapped { try raw.map(Array(0..<20)) }
        let frames = [
            TestFrame(version: 4, transport: .tcp, payload: 100, tcpOptions: 12),
            TestFrame(version: 4, transport: .udp, payload: 100, tags: 1, options: 8),
            TestFrame(version: 6, transport: .tcp, payload: 100, options: 16),
            TestFrame(version: 6, transport: .udp, payload: 100, tags: 2),
        ]
        func check(_ frame: TestFrame, _ sizes: [Int]) throws {
            var start = 0
            for (page, size) in sizes.enumerated() {
                raw.data.region.write(Array(frame.bytes[start..<start + size]), at: page * 4096 + 4096 - size)
                start += size
            }
            raw.send(
                sizes.enumerated().map { page, size in
                    raw.request(
                        page: page, offset: 4096 - size, size: page == 0 ? frame.bytes.count : size,
                        flags: page == 0 ? [.checksumBlank, .moreData] : page + 1 < sizes.count ? .moreData : [], id: page)
                })
            #expect(try raw.answers(sizes.count).allSatisfy { $0.status == .okay })
            let got = try #require(try pair.backWire.receive())
            expectSame(got.frame, frame.bytes, "\(sizes)")
            #expect(got.header == TestFrame.header(frame.blank), "\(sizes)")
        }
        for frame in frames {
            for cut in 1..<frame.payloadOffset + 2 { try check(frame, [cut, frame.bytes.count - cut]) }
            for start in 0..<4 {
                let bytes = [Int](repeating: 1, count: 17)
                try check(
                    frame,
                    start == 0 ? bytes + [frame.bytes.count - 17] : [17 * start] + bytes + [frame.bytes.count - 17 * start - 17])
            }
        }
        try raw.close()
        pair.backend.stop()
    }

    /// Packets in as many slots as there may be that are yet shorter than what is looked at of a packet's head: every total from 14 to 256,
    /// in 1 to 18 slots of any size.
    @Test(arguments: [false, true]) func B13_shortPacketsInManySlots(mapped: Bool) throws {
        let (pair, raw) = try connected()
        if mapped { try raw.map(Array(0..<18)) }
        var random = SplitMix(seed: 13)
        let bytes = plainFrame(256, seed: 4)
        for total in 14...256 {
            for count in stride(from: 1, through: 18, by: soak(1) > 1 ? 1 : 1 + total % 4) where count <= total {
                // `count - 1` different places to cut at.
                var cuts = Set<Int>()
                while cuts.count < count - 1 { cuts.insert(1 + Int(random.next() % UInt64(total - 1))) }
                let edges = [0] + cuts.sorted() + [total]
                var slots: [TransmitSlot] = []
                for page in 0..<count {
                    let size = edges[page + 1] - edges[page]
                    let offset = page % 2 == 0 ? 4096 - size : 0
                    raw.data.region.write(Array(bytes[edges[page]..<edges[page + 1]]), at: page * 4096 + offset)
                    slots.append(
                        raw.request(
                            page: page, offset: offset, size: page == 0 ? total : size, flags: page + 1 < count ? .moreData : [],
                            id: page))
                }
                raw.send(slots)
                #expect(try raw.answers(count).allSatisfy { $0.status == .okay })
                expectSame(try pair.backWire.receive()?.frame ?? [], bytes[..<total], "\(total) bytes at \(edges)")
            }
        }
        try raw.close()
        pair.backend.stop()
    }

    /// Slots without data, in every subset of a packet of five: refused whole, and the wire sees no empty piece.
    @Test func B15_everySubsetOfEmptySlots() throws {
        let (pair, raw) = try connected()
        try raw.map([0, 1])
        for subset in 1..<32 {
            let sizes = (0..<5).map { subset >> $0 & 1 == 1 ? 0 : 50 }
            let total = sizes.reduce(0, +)
            raw.send(
                sizes.enumerated().map { index, size in
                    raw.request(page: index, size: index == 0 ? total : size, flags: index < 4 ? .moreData : [], id: index)
                })
            let answers = try raw.answers(5)
            #expect(answers.allSatisfy { $0.status == .error }, "\(sizes)")
            #expect(answers.map { Int($0.id) } == [0, 1, 2, 3, 4])
        }
        #expect(try pair.backWire.receive(milliseconds: 10) == nil)
        #expect(try raw.isServed())
        try raw.close()
        pair.backend.stop()
    }

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
        let text = try raw.error()
        #expect(text.contains(packet.reason))
        let answers = try raw.answers(packet.slots.count + packet.extras.count)
        #expect(answers.allSatisfy { $0.status == .error || $0.status == .null })
        #expect(try pair.backWire.receive(milliseconds: 10) == nil)
        // Another connection of the same interface is served.
        try raw.closeForAnother()
        let next = try RawVif(pair)
        try next.wait(for: [.connected])
        #expect(try next.isServed())
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
        #expect(try raw.isServed())
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
        #expect(try raw.isServed())
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

/// A place for what a closure makes.
final class Box<T>: @unchecked Sendable {
    var value: T?
}

/// Numbers that look random and are the same in every run.
struct SplitMix {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}
