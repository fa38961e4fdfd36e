// The control ring, the multicast list and the rate under a hostile frontend.

import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
import NetworkBackend
import NetworkProtocol
import SharedMemory
import SharedRing
import Synchronization
import TestHosts
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(3)), .serialized)
struct HostileControlTests {
    private func connected(
        _ options: NetworkBackendOptions = .init(), keys: [String: String] = [:], queues: Int = 1,
        spec: String = "mac=00:16:3e:01:02:03"
    ) throws -> (NetworkPair, MockNetworkFrontend) {
        let pair = try NetworkPair(options, spec: spec)
        let raw = try MockNetworkFrontend(pair, keys: keys, queues: queues)
        try raw.wait(for: [.connected])
        return (pair, raw)
    }

    /// Which queue a frame of flow `flow` reaches.
    private func queue(of flow: UInt8, _ pair: NetworkPair, _ raw: MockNetworkFrontend) throws -> Int? {
        try pair.backWire.send(TestFrame(version: 4, transport: .udp, payload: 20, flow: flow).bytes)
        var found: Int?
        _ = try eventually {
            found = try raw.queues.indices.first { try raw.queues[$0].receive.nextResponse() != nil }
            return found != nil
        }
        // The hash's own slot.
        if let found { _ = try raw.received(queue: found) }
        return found
    }

    /// Every size and every count in and outside the bounds; and a request that is refused has changed nothing.
    @Test func B6_sizesKeysAndEntries() throws {
        let (pair, raw) = try connected(queues: 3)
        let page = raw.data.references[50].rawValue
        #expect(try raw.ask(2, 5).status == .invalidParameter, "kinds of hashes before there is one")
        #expect(try raw.ask(7, 1).status == .success && raw.ask(2, 5).status == .success)
        for length in 0...42 { #expect(try raw.ask(3, page, UInt32(length)).status == (length <= 40 ? .success : .bufferOverflow)) }
        for size: UInt32 in Array(0...130) + [1 << 31, .max] {
            #expect(try raw.ask(5, size).status == (size <= 128 ? .success : .invalidParameter), "\(size) entries")
        }
        #expect(try raw.ask(4).data == 128)
        // All to queue 1.
        #expect(try raw.ask(5, 8).status == .success)
        for index in 0..<8 { raw.data.region.store(UInt32(1), at: 50 * 4096 + 4 * index) }
        #expect(try raw.ask(6, page, 8, 0).status == .success)
        for queue in 0..<3 { raw.post(Array(queue * 16..<queue * 16 + 16), queue: queue) }
        // One bad entry of eight, at every place; a page that cannot be read; a size that is too large.
        for (place, entry) in zip(0..<8, [3, 4, 255, 1 << 16, 1 << 31, UInt32.max, 3, 3] as [UInt32]) {
            for index in 0..<8 { raw.data.region.store(index == place ? entry : UInt32(2), at: 50 * 4096 + 4 * index) }
            #expect(try raw.ask(6, page, 8, 0).status == .invalidParameter)
        }
        #expect(try raw.ask(6, 31_000, 8, 0).status == .invalidParameter)
        #expect(try raw.ask(5, 129).status == .invalidParameter)
        for flow: UInt8 in 1...8 { #expect(try queue(of: flow, pair, raw) == 1, "flow \(flow)") }
        try raw.close()
        pair.backend.stop()
    }

    /// Frames and settings cross: addresses come and go while frames come, and the frontend leaves in the middle of it.
    @Test func B20_multicastListsDuringTrafficAndDisconnects() throws {
        var options = NetworkBackendOptions()
        options.drainMilliseconds = 2
        let pair = try NetworkPair(options)
        let baseline = pair.host.usage
        for round in 0..<soak(25) {
            let raw = try MockNetworkFrontend(pair, keys: ["request-multicast-control": "1"])
            try raw.wait(for: [.connected])
            raw.post(Array(0..<40))
            let isOver = Atomic<Bool>(false)
            try withThread("traffic") {
                var frame = plainFrame(200)
                var seed: UInt8 = 0
                while !isOver.load(ordering: .relaxed) {
                    frame.replaceSubrange(0..<6, with: [1, seed % 70, 0, 0, 0, 0])
                    seed &+= 1
                    if !pair.backWire.offer(frame) { usleep(500) }
                }
            } during: {
                defer { isOver.store(true, ordering: .relaxed) }
                for turn in 0..<30 + round {
                    let address = MACAddress(littleEndian: 1 | UInt64(turn % 66) << 8)
                    raw.send([
                        raw.request(size: 0, flags: .extraInfo),
                        TransmitSlot(ExtraInfo(multicast: address, isAdded: turn % 3 != 0)),
                    ])
                    if turn % 8 == 7 { _ = try raw.answers(16) }
                }
                try raw.closeForAnother()
            }
        }
        expectBaseline(pair.host, baseline)
        pair.backend.stop()
    }

    /// The key, the algorithm and the mapping change under the frames that they are for: each frame arrives once, at
    /// some queue, with a hash of one of the keys or none.
    @Test func B21_hashSettingsDuringTraffic() throws {
        let (pair, raw) = try connected(queues: 2)
        let page = raw.data.references[50].rawValue
        var arrived = 0
        for round in 0..<soak(300) {
            for queue in 0..<2 {
                while raw.queues[queue].receive.outstanding < 3 { raw.post([queue * 20 + round % 20], queue: queue) }
            }
            try pair.backWire.send(TestFrame(version: 4, transport: .tcp, payload: 10, flow: UInt8(round % 200)).bytes)
            raw.data.region.store(UInt64(truncatingIfNeeded: round), at: 50 * 4096)
            switch round % 5 {
            case 0: #expect(try raw.ask(7, UInt32(round / 5 % 2)).status == .success)
            case 1: #expect(try raw.ask(3, page, 40).status == .success)
            case 2: _ = try raw.ask(2, UInt32(round % 16))
            case 3: #expect(try raw.ask(5, UInt32(round % 129)).status == .success)
            default: #expect(try raw.ask(5, 0).status == .success)
            }
            var found = 0
            _ = try eventually {
                for queue in 0..<2 {
                    guard let slot = try raw.queues[queue].receive.nextResponse() else { continue }
                    found += 1
                    #expect(slot.response.status == 64)
                    if slot.response.flags.contains(.extraInfo) { #expect(try raw.received(queue: queue).extra.type == .hash) }
                }
                return found > 0
            }
            arrived += found
        }
        #expect(arrived == soak(300))
        try raw.close()
        pair.backend.stop()
    }

    /// A ring full of requests whose answers nobody takes: one answer each, and no more work until they are taken.
    @Test func B30_aFloodAndARingThatIsNotDrained() throws {
        let (pair, raw) = try connected()
        for round in 0..<3 {
            for index in 0..<128 {
                let isPushed = raw.control.push(ControlRequest(id: UInt16(round * 128 + index), rawType: UInt16(index % 14)))
                #expect(isPushed)
            }
            if raw.control.publish() { raw.controlBell.notify() }
            #expect(eventually { raw.controlPage.region.loadAcquiring(RingHeader.responseProduced) == UInt32(128 * (round + 1)) })
            for _ in 0..<50 { raw.controlBell.notify() }
            #expect(try pair.serves(raw), "frames flow past a control ring that nobody drains")
            var ids: [Int] = []
            while let answer = try raw.control.nextResponse() { ids.append(Int(answer.id)) }
            #expect(ids == Array(round * 128..<round * 128 + 128))
        }
        try raw.close()
        pair.backend.stop()
    }

    /// The smallest packets against a small rate: what may be sent at once is sent, then it waits without a busy timer.
    @Test func B31_theSmallestPacketsAgainstTheRate() throws {
        let (pair, raw) = try connected(spec: "mac=00:16:3e:01:02:03,rate=1KB/s@1000ms")
        // 131072 bytes at once, in the largest packets; then in the smallest.
        var credit = 131_072
        for page in 0..<32 { raw.data.region.fill(page * 4096, count: 4096, with: 2) }
        while credit >= 65_520 {
            raw.send(
                (0..<16).map {
                    raw.request(
                        page: $0, size: $0 == 0 ? 65_520 : 4096 - ($0 == 15 ? 16 : 0), flags: $0 < 15 ? .moreData : [], id: $0)
                })
            _ = try raw.answers(16)
            _ = try pair.backWire.receive()
            credit -= 65_520
        }
        let before = processorMilliseconds()
        let start = monotonicMilliseconds()
        var answered = 0
        for index in 0..<200 { raw.send([raw.request(size: 14, id: index)]) }
        while monotonicMilliseconds() - start < 500 {
            while try raw.transmit.nextResponse() != nil { answered += 1 }
            sleepMilliseconds(10)
        }
        #expect(processorMilliseconds() - before < 150)
        #expect(answered < 200)
        _ = answered
        try raw.close()
        pair.backend.stop()
    }
}
