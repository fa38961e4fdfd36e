// One interface on several threads: what the frontend changes reaches all of them, and none before it is whole.

import DriverRuntime
import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
@testable import NetworkBackend
import NetworkDevices
import NetworkFrontend
import NetworkProtocol
import DeviceTrace
import NetworkTrace
import Packets
import Reactor
import SharedMemory
import Synchronization
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenTypes

extension ReactorsTests {
    /// A request that concerns another thread is answered when that has done it, and those behind it wait, without
    /// anybody spinning.
    @Test(arguments: ["map", "unmap", "hash"]) func theControlRingWaitsForAllThreads(_ what: String) throws {
        let (pair, raw, device) = try connected()
        try raw.map([40, 41], queue: 1)
        let mapped = pair.host.usage.mappings
        let gate = device.close(1)
        raw.send([raw.request(size: 60)], queue: 1)
        #expect(eventually { gate.isReached })
        raw.data.region.store(
            GrantMappingEntry(reference: raw.data.references[what == "map" ? 42 : 41], isReadOnly: false).word, at: 62 * 4096)
        let request =
            what == "hash"
            ? ControlRequest(id: 1, rawType: 7, 1)
            : ControlRequest(id: 1, rawType: what == "map" ? 9 : 10, 1, raw.data.references[62].rawValue, 1)
        _ = raw.control.push(request)
        _ = raw.control.push(ControlRequest(id: 2, rawType: 4))
        if raw.control.publish() { raw.controlBell.notify() }
        sleepMilliseconds(20)
        let start = processorMilliseconds()
        sleepMilliseconds(300)
        #expect(processorMilliseconds() - start < 150, "somebody spins")
        for _ in 0..<5 {
            // Rings for nothing, too.
            raw.controlBell.notify()
            sleepMilliseconds(5)
            #expect(try raw.control.nextResponse() == nil)
        }
        #expect(pair.host.usage.mappings == mapped)
        // The first thread serves on.
        raw.send([raw.request(page: 1, size: 60)])
        #expect(try raw.answers(1)[0].status == .okay)
        gate.release()
        for id: UInt16 in [1, 2] {
            let answer = try raw.controlAnswer(0)
            #expect(answer.id == id && answer.status == .success)
        }
        #expect(pair.host.usage.mappings == mapped + (what == "map" ? 1 : what == "unmap" ? -1 : 0))
        #expect(try raw.answers(1, queue: 1)[0].status == .okay)
        // What is asked for wrongly is told so by the other thread.
        #expect(try raw.ask(9, 1, 31_000, 1).status == .invalidParameter)
        #expect(try raw.ask(9, 2, raw.data.references[62].rawValue, 1).status == .invalidParameter)
        try raw.close()
        pair.backend.stop()
    }

    /// Pages are mapped and unmapped while their queue's thread sends from them and receives into them: every frame is
    /// whole, mapped or copied.
    @Test func pagesComeAndGoUnderTraffic() throws {
        let (pair, raw, _) = try connected()
        let baseline = pair.host.usage
        let isOver = Flag()
        let frames = (0..<4).map { plainFrame(3000, seed: $0) }
        for (page, frame) in frames.enumerated() { raw.data.region.write(frame, at: page * 4096) }
        let sent = Atomic<Int>(0)
        try withThread("frontend") {
            var round = 0
            while !isOver.isSet {
                // Out from pages 0 to 3, in to pages 4 to 7, on either queue.
                for queue in 0..<2 {
                    raw.send([raw.request(page: round % 4, size: 3000, id: round % 4)], queue: queue)
                    let status = try? raw.answers(1, queue: queue)[0].status
                    #expect(status == .okay)
                    let out = (try? pair.backWire.receive())??.frame
                    #expect(out == frames[round % 4])
                    // Whichever queue takes it from the wire.
                    try? pair.backWire.send(frames[(round + 1) % 4])
                    sent.add(1, ordering: .relaxed)
                }
                var found = 0
                let isThere = try? eventually {
                    for queue in 0..<2 {
                        while let slot = try raw.queues[queue].receive.nextResponse() {
                            found += 1
                            #expect(slot.response.status == 3000)
                        }
                        // Either may take both.
                        while raw.queues[queue].receive.outstanding < 4 { raw.post([4 + round % 4], queue: queue) }
                    }
                    return found == 2
                }
                #expect(isThere == true)
                if found != 2 { isOver.set() }
                round += 1
            }
        } during: {
            defer { isOver.set() }
            for turn in 0..<soak(200) {
                let queue = turn % 2
                for page in 0..<8 {
                    raw.data.region.store(
                        GrantMappingEntry(reference: raw.data.references[page], isReadOnly: false).word, at: 62 * 4096 + 8 * page)
                }
                for type: UInt16 in [9, 10] {
                    let answer = try raw.ask(type, UInt32(queue), raw.data.references[62].rawValue, 8)
                    #expect(answer.status == .success)
                    for page in 0..<8 { #expect(raw.data.region.load(62 * 4096 + 8 * page + 6, as: UInt16.self) == 0) }
                }
            }
        }
        #expect(sent.load(ordering: .relaxed) > 10)
        #expect(pair.host.usage == baseline)
        let total = pair.backend.total
        #expect(total.mappedFrames > 0 && total.copiedFrames > 0 && total.transmitErrors == 0, "\(total)")
        try raw.close()
        pair.backend.stop()
    }

    /// Addresses that are named through one queue count for all; there is one list, however many queues add to it.
    @Test func multicastAddressesAreKnownToAllThreads() throws {
        // Frames come in at the first queue, so that only its thread's list counts.
        let (pair, raw, _) = try connected(keys: ["request-multicast-control": "1"], hasOneInlet: true)
        func set(_ number: UInt64, _ isAdded: Bool, queue: Int) throws -> NetworkStatus {
            raw.send(
                [
                    raw.request(size: 0, flags: .extraInfo),
                    TransmitSlot(ExtraInfo(multicast: MACAddress(littleEndian: 1 | number << 8), isAdded: isAdded)),
                ], queue: queue)
            return try raw.answers(2, queue: queue)[0].status
        }
        func arrives(_ number: UInt8) throws -> Bool {
            var frame = plainFrame(60)
            frame.replaceSubrange(0..<6, with: [1, number, 0, 0, 0, 0])
            let before = pair.backend.total
            while raw.receive.outstanding < 100 { raw.post([0]) }
            try pair.backWire.send(frame)
            let isCounted = try eventually {
                while try raw.receive.nextResponse() != nil {}
                let now = pair.backend.total
                return now.received + now.receiveDropped == before.received + before.receiveDropped + 1
            }
            #expect(isCounted)
            return pair.backend.total.received > before.received
        }
        #expect(try set(5, true, queue: 1) == .okay && set(6, true, queue: 0) == .okay)
        for number: UInt8 in [5, 6] { #expect(try eventually { try arrives(number) }) }
        #expect(try !arrives(7))
        #expect(try set(6, false, queue: 1) == .okay)
        #expect(try eventually { try !arrives(6) })
        #expect(try arrives(5))
        // One list, whoever adds to it.
        for number in UInt64(100)..<163 { #expect(try set(number, true, queue: Int(number % 2)) == .okay) }
        #expect(try set(200, true, queue: 0) == .error && set(200, true, queue: 1) == .error)
        // Both at once, each its own addresses.
        for number in UInt64(100)..<163 { #expect(try set(number, false, queue: Int((number + 1) % 2)) == .okay) }
        for _ in 0..<100 {
            for queue in 0..<2 {
                raw.send(
                    [true, false].flatMap { isAdded in
                        [
                            raw.request(size: 0, flags: .extraInfo),
                            TransmitSlot(
                                ExtraInfo(multicast: MACAddress(littleEndian: 1 | UInt64(30 + queue) << 8), isAdded: isAdded)),
                        ]
                    }, queue: queue)
            }
            for queue in 0..<2 { #expect(try raw.answers(4, queue: queue).allSatisfy { $0.status == .okay || $0.status == .null }) }
        }
        for number: UInt8 in [30, 31] { #expect(try eventually { try !arrives(number) }) }
        #expect(try arrives(5))
        try raw.close()
        pair.backend.stop()
    }

    /// No carrier while any queue of any thread is stalled.
    @Test func theCarrierIsThereWhenNoThreadIsStalled() throws {
        let wire = try Wire("back")
        let device = CarrierWire(wire.network)
        var options = options(2)
        options.drainMilliseconds = 50
        let pair = try NetworkPair(options, backEnd: BackEnd(device, of: wire))
        let raw = try MockNetworkFrontend(pair, queues: 2)
        try raw.wait(for: [.connected])
        try waitForStatus(pair, 2)
        // Two pages are needed, neither queue has one.
        #expect(
            try eventually {
                try wire.send(plainFrame(5000))
                return pair.backend.status[0].queues.allSatisfy { $0.receiveExpired > 0 }
            })
        #expect(device.carrier.withLock { $0 } == [false])
        raw.post(Array(0..<20), queue: 1)
        #expect(
            try eventually {
                try wire.send(plainFrame(100))
                return try raw.queues[1].receive.nextResponse() != nil
            })
        #expect(device.carrier.withLock { $0 } == [false], "one is stalled still")
        raw.post(Array(20..<40), queue: 0)
        #expect(
            try eventually {
                try wire.send(plainFrame(100))
                return device.carrier.withLock { $0 } == [false, true]
            })
        try raw.close()
        #expect(eventually { device.carrier.withLock { $0 } == [false, true, false] }, "nobody is there any more")
        pair.backend.stop()
    }
}
