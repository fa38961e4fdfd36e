// One interface on several threads: its end, its takeover, and what is told of it.

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
import Reactor
import SharedMemory
import SharedRing
import Synchronization
import TestHosts
import Testing
import TestSupport
import Toolstack

extension ReactorsTests {
    /// A ring that is broken on one thread ends the connection on all of them, once; the next finds nothing left.
    @Test(arguments: [0, 1, 2]) func aBrokenRingEndsAll(queue: Int) throws {
        let wire = try Wire("back")
        let pair = try NetworkPair(options(2), backEnd: BackEnd(SteeredNetwork(wire.network), of: wire))
        let baseline = pair.host.usage
        for round in 0..<5 {
            let raw = try MockNetworkFrontend(pair, queues: 3)
            try raw.wait(for: [.connected])
            try raw.map([40], queue: 1)
            for queue in 0..<3 { raw.post(Array(queue * 10..<queue * 10 + 10), queue: queue) }
            // Both at once, now and then.
            for broken in round % 2 == 0 ? [queue] : [0, 1, 2] {
                raw.queues[broken].transmitPage.region.storeReleasing(1 << 30, at: RingHeader.requestProduced)
                raw.queues[broken].bell.notify()
            }
            try raw.wait(for: [.closing])
            try raw.closeForAnother()
        }
        #expect((1...5).contains(pair.backend.log.filter { $0.contains("broke its ring") }.count))
        expectBaseline(pair.host, baseline)
        pair.backend.stop()
    }

    /// A takeover between backends with other numbers of threads: what was set and mapped stays, for the queues of
    /// every thread.
    @Test(arguments: [[2, 2, 2], [1, 2, 3], [3, 1, 2]]) func takenOverByOtherNumbersOfThreads(_ counts: [Int]) throws {
        let directory = try TemporaryDirectory()
        let pair = try NetworkPair(options(counts[0], directory), backendDomain: 3)
        let raw = try MockNetworkFrontend(pair, keys: ["request-multicast-control": "1"], queues: 3)
        try raw.wait(for: [.connected])
        let hash = try spread(raw)
        for queue in 0..<3 { try raw.map([40 + queue], queue: queue) }
        raw.send(
            [
                raw.request(size: 0, flags: .extraInfo),
                TransmitSlot(ExtraInfo(multicast: MACAddress(littleEndian: 0x0501), isAdded: true)),
            ], queue: 1)
        #expect(try raw.answers(2, queue: 1)[0].status == .okay)
        var mapped = pair.host.usage.mappings
        var group = frame(1)
        group.replaceSubrange(0..<6, with: [1, 5, 0, 0, 0, 0])
        var other = group
        other[1] = 6
        var backend = pair.backend
        for (round, count) in counts.enumerated() {
            if round > 0 { backend = try successor(of: backend, pair, raw, options(count, directory)) }
            #expect(eventually { pair.host.usage.mappings == mapped })
            // A change at one queue loses nothing of the others'.
            try raw.map([43 + round], queue: (round + 2) % 3)
            mapped += 1
            for queue in 0..<3 { raw.post(Array(queue * 12..<queue * 12 + 12), queue: queue) }
            for flow in UInt8(round * 4)..<UInt8(round * 4 + 4) {
                let frame = frame(flow)
                try pair.backWire.send(other)
                try pair.backWire.send(frame)
                #expect(try received(raw, queue(frame, hash, raw)) == frame)
            }
            // The other threads know of it a moment after the first.
            #expect(
                try eventually {
                    try pair.backWire.send(group)
                    return try received(raw, queue(group, hash, raw)) == group
                })
            #expect(try raw.state() == .connected)
        }
        // Pages that another thread's queue has had mapped all the time can be unmapped.
        for queue in 0..<3 {
            raw.data.region.store(
                GrantMappingEntry(reference: raw.data.references[40 + queue], isReadOnly: false).word, at: 62 * 4096)
            #expect(try raw.ask(10, UInt32(queue), raw.data.references[62].rawValue, 1).status == .success)
        }
        #expect(pair.host.usage.mappings == mapped - 3)
        try raw.close()
        #expect(eventually { directory.files.isEmpty }, "journals left")
        backend.stop()
    }

    /// Kills the backend, lets every queue of the frontend send while nobody is there, and starts another, which takes
    /// all of it over.
    private func successor(
        of backend: RunningBackend, _ pair: NetworkPair, _ raw: MockNetworkFrontend, _ options: NetworkBackendOptions
    ) throws -> RunningBackend {
        backend.killAtOnce()
        for queue in 0..<3 { raw.send([raw.request(page: 40 + queue, size: 60, id: 7)], queue: queue) }
        let next = try RunningBackend(pair.host, domain: 3, options, device: pair.backWire.network)
        for queue in 0..<3 {
            #expect(try raw.answers(1, queue: queue)[0].status == .okay)
            #expect(try pair.backWire.receive()?.frame.count == 60)
        }
        #expect(eventually { next.log.contains { $0.contains("taken over") } })
        return next
    }

    /// Killed in the middle of traffic on all queues, hash and all: our own frontend goes on.
    @Test func killedInTheMiddleOfTraffic() throws {
        let directory = try TemporaryDirectory()
        let pair = try NetworkPair(options(2, directory), backendDomain: 3)
        var wishes = NetworkFrontendOptions()
        wishes.queues = 4
        let frontend = try pair.connect(wishes)
        let mapped = pair.host.usage.mappings
        var backend = pair.backend
        let isOver = Flag()
        try withThread("traffic") {
            var seed = 0
            while !isOver.isSet {
                seed += 1
                pair.frontWire.offer(plainFrame(1000, seed: seed))
                pair.backWire.offer(plainFrame(1000, seed: seed))
                for wire in [pair.backWire, pair.frontWire] { _ = try? wire.receive(milliseconds: 0) }
                usleep(50)
            }
        } during: {
            defer { isOver.set() }
            for _ in 0..<soak(8) {
                sleepMilliseconds(15)
                backend.killAtOnce()
                backend = try RunningBackend(pair.host, domain: 3, options(2, directory), device: pair.backWire.network)
                #expect(eventually(5000) { backend.log.contains { $0.contains("taken over") } })
            }
        }
        #expect(eventually { pair.host.usage.mappings == mapped })
        while try pair.backWire.receive(milliseconds: 100) != nil {}
        while try pair.frontWire.receive(milliseconds: 100) != nil {}
        try pair.exchange(20, seed: 700)
        #expect(frontend.connectionCount == 1 && frontend.failure == nil)
        frontend.close()
        backend.stop()
    }

    /// Queues of two threads write into one trace.
    @Test func aTraceOfAllThreads() throws {
        let (pair, raw, _) = try connected()
        let tracer = try Tracer(pair.backend)
        let rounds = 200
        // One thread to each queue; the rings are apart.
        func send(_ queue: Int) {
            for number in 0..<rounds {
                raw.send([raw.request(page: queue, size: 100 + queue, id: number)], queue: queue)
                let status = try? raw.answers(1, queue: queue)[0].status
                #expect(status == .okay)
            }
        }
        let isOver = Flag()
        try withThread("reader") {
            while !isOver.isSet { _ = try? pair.backWire.receive(milliseconds: 5) }
        } during: {
            defer { isOver.set() }
            try withThread("other") {
                send(1)
            } during: {
                send(0)
            }
        }
        let records = try tracer.wait(for: 2 * rounds)
        #expect(records.count == 2 * rounds && tracer.lost == 0)
        for queue in 0..<2 {
            let own = records.filter { $0.queue == queue }
            #expect(own.count == rounds)
            let bytes = [UInt8](repeating: UInt8(queue + 1), count: 100 + queue)
            #expect(own.allSatisfy { $0.byteCount == bytes.count && $0.bytes == bytes })
        }
        tracer.close()
        try raw.close()
        pair.backend.stop()
    }

    /// A cable's ends stay on one thread each, whatever there is.
    @Test func aCableHasOneThread() throws {
        let links = NetworkLinks()
        let device = SteeredNetwork(try links.end(of: "a", to: "b", mtu: 1500))
        let pair = try NetworkPair(options(2), backEnd: BackEnd(device))
        let raw = try MockNetworkFrontend(pair, queues: 4)
        try raw.wait(for: [.connected])
        for queue in 0..<4 {
            raw.send([raw.request(size: 60)], queue: queue)
            _ = try raw.answers(1, queue: queue)
        }
        #expect(device.users.count == 4 && device.distinctThreads == 1)
        try raw.close()
        pair.backend.stop()
    }
}
