// Packets that make no sense, on their way from a frontend: an error for the packet or the end of the interface, and
// nothing left behind.

import DriverRuntime
import Foundation
import Hypervisor
import HypervisorRules
import LinuxSystem
import MockPeers
import NetworkBackend
import NetworkProtocol
import SharedMemory
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenTypes

@Suite(.timeLimit(.minutes(3)), .serialized)
struct HostileTransmitTests {
    func connected(_ keys: [String: String] = [:], queues: Int = 1) throws -> (NetworkPair, MockNetworkFrontend) {
        let pair = try NetworkPair()
        let raw = try MockNetworkFrontend(pair, keys: keys, queues: queues)
        try raw.wait(for: [.connected])
        return (pair, raw)
    }

    /// An error in every slot of a packet in turn, again and again: nothing is kept of what came before it.
    @Test func B2_errorsInEverySlotLeaveNothing() throws {
        let (pair, raw) = try connected()
        _ = try pair.serves(raw)
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
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    /// The end of an interface comes from its rings' thread and waits for nothing: not for the control thread, which is
    /// busy here with another interface's device.
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
        let second = try pair.toolstack.create(
            VifSpecification(parsing: "mac=00:16:3e:01:02:04"), frontend: DomainID(1), random: .system)
        let raw = try MockNetworkFrontend(pair)
        try raw.wait(for: [.connected])
        let neighbour = try MockNetworkFrontend(pair, paths: second)
        try neighbour.wait(for: [.connected])
        _ = try pair.toolstack.create(VifSpecification(parsing: "mac=00:16:3e:01:02:05"), frontend: DomainID(1), random: .system)
        #expect(entered.wait(timeout: .now() + 5) == .success)
        // The control thread stands still from here on.
        raw.send([raw.request(offset: 4090, size: 100)])
        _ = try raw.answers(1)
        raw.data.region.write(plainFrame(77, seed: 3), at: 0)
        raw.send([raw.request(size: 77)])
        #expect(throws: MockPeerError.self) { try raw.answers(1, milliseconds: 100) }
        #expect(try pair.backWire.receive(milliseconds: 0) == nil, "a packet after the one that was the end")
        #expect(try pair.serves(neighbour), "another interface on the same thread")
        #expect(pair.backend.status.count == 2, "status is answered, too")
        #expect(try raw.state() == .connected)
        gate.signal()
        try raw.wait(for: [.closing])
        #expect(try pair.backendError().contains("cross a page"))
        try raw.close()
        try neighbour.close()
        pair.backend.stop()
    }

    /// A packet that ends the interface on any queue, and a frontend that leaves at any moment after it.
    @Test func B7_fatalPacketsAndDisconnects() throws {
        let pair = try NetworkPair()
        let baseline = pair.host.usage
        for round in 0..<soak(60) {
            let raw = try MockNetworkFrontend(pair, queues: 3)
            try raw.wait(for: [.connected])
            raw.send([raw.request(offset: 4090, size: 100)], queue: round % 3)
            usleep(UInt32(round * 17 % 1000))
            try raw.closeForAnother()
            if round % 10 == 9 { expectBaseline(pair.host, baseline) }
        }
        let raw = try MockNetworkFrontend(pair, queues: 3)
        try raw.wait(for: [.connected])
        for queue in 0..<3 { #expect(try pair.serves(raw, queue: queue)) }
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
        #expect(try pair.serves(raw))
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
        let raw = try MockNetworkFrontend(pair)
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
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }

    /// Headers cut at every byte, and in slots of a byte each, reach the wire whole, with the checksum where the
    /// headers say.
    @Test(arguments: [false, true]) func B12_realHeadersCutAnywhere(mapped: Bool) throws {
        let (pair, raw) = try connected()
        if mapped { try raw.map(Array(0..<20)) }
        let frames = [
            TestFrame(version: 4, transport: .tcp, payload: 100, .init(tcpOptions: 12)),
            TestFrame(version: 4, transport: .udp, payload: 100, .init(tags: 1, options: 8)),
            TestFrame(version: 6, transport: .tcp, payload: 100, .init(options: 16)),
            TestFrame(version: 6, transport: .udp, payload: 100, .init(tags: 2)),
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

    /// Packets in as many slots as there may be that are yet shorter than what is looked at of a packet's head: every
    /// total from 14 to 256, in 1 to 18 slots of any size.
    @Test(arguments: [false, true]) func B13_shortPacketsInManySlots(mapped: Bool) throws {
        let (pair, raw) = try connected()
        if mapped { try raw.map(Array(0..<18)) }
        var random = SplitMix(13)
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
        #expect(try pair.serves(raw))
        try raw.close()
        pair.backend.stop()
    }
}

/// A place for what a closure makes.
final class Box<T>: @unchecked Sendable {
    var value: T?
}
