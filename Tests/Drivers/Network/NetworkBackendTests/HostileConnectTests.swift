// Frontends that connect badly, and connections that fail half way: everything is given back each time, and the next
// good one is served.

import DMA
import DriverRuntime
import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
@testable import NetworkBackend
import NetworkDevices
import NetworkProtocol
import Packets
import SharedMemory
import Synchronization
import TestHosts
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(3)), .serialized)
struct HostileConnectTests {
    /// A pair whose backend stands on a hypervisor with faults.
    private func faultyPair(_ options: NetworkBackendOptions = .init()) throws -> (NetworkPair, FaultyHypervisor) {
        let faults = Box<FaultyHypervisor>()
        let pair = try NetworkPair(
            options,
            start: { host, device in
                let inner = host.domain(0)
                let outer = FaultyHypervisor(inner)
                faults.value = outer
                return try RunningBackend(inner, through: outer, options, opener: { (_) throws(DeviceOpenFailure) in device })
            })
        return (pair, try #require(faults.value))
    }

    /// Numbers of queues that nobody can have, and directories of queues that are missing, doubled or too many.
    @Test(arguments: [
        ["multi-queue-num-queues": "0"], ["multi-queue-num-queues": "5"], ["multi-queue-num-queues": "-1"],
        ["multi-queue-num-queues": "4294967295"], ["multi-queue-num-queues": "4294967296"], ["multi-queue-num-queues": "2x"],
        ["multi-queue-num-queues": "4"], ["queue-1/tx-ring-ref": ""], ["queue-2/event-channel": "", "queue-2/x": "1"],
        ["queue-0/rx-ring-ref": "99999999999"], ["queue-1/event-channel": "0"], ["queue-1/event-channel": "77777"],
        ["queue-2/tx-ring-ref": "31000"],
    ]) func B16_queuesThatMakeNoSense(_ keys: [String: String]) throws {
        let pair = try NetworkPair()
        let baseline = pair.host.usage
        let raw = try MockNetworkFrontend(pair, keys: keys, queues: 3)
        try raw.wait(for: [.closing])
        #expect(try !pair.backendError().isEmpty)
        try raw.closeForAnother()
        expectBaseline(pair.host, baseline)
        let next = try MockNetworkFrontend(pair, queues: 3)
        try next.wait(for: [.connected])
        for queue in 0..<3 { #expect(try pair.serves(next, queue: queue)) }
        try next.close()
        pair.backend.stop()
    }

    /// One ring in two places: whatever comes of it concerns that frontend alone, and nothing is left.
    @Test func B16_oneRingForTwoQueues() throws {
        let pair = try NetworkPair()
        let baseline = pair.host.usage
        let spare = try MockNetworkQueue(pair.guest, .zero)
        for key in ["tx-ring-ref", "rx-ring-ref", "event-channel"] {
            let raw = try MockNetworkFrontend(
                pair, keys: ["queue-0/\(key)": spare.keys[key] ?? "", "queue-1/\(key)": spare.keys[key] ?? ""], queues: 2)
            try raw.wait(for: [.connected, .closing])
            for queue in 0..<2 { raw.send([raw.request(size: 60)], queue: queue) }
            for seed in 0..<5 { try pair.backWire.send(plainFrame(60, seed: seed)) }
            sleepMilliseconds(20)
            try raw.closeForAnother()
        }
        spare.close()
        let next = try MockNetworkFrontend(pair)
        try next.wait(for: [.connected])
        #expect(try pair.serves(next))
        try next.close()
        expectBaseline(pair.host, baseline)
        pair.backend.stop()
    }

    /// The n-th call that connecting takes fails, for every n until none does: nothing is left of each, and the next
    /// connection works.
    @Test func B17_everyStepOfConnectingFails() throws {
        let (pair, faults) = try faultyPair()
        let baseline = pair.host.usage
        let (regions, descriptors) = (SharedRegion.liveCount, Descriptor.openCount)
        var number = 0
        while true {
            number += 1
            faults.failCall(number)
            let raw = try MockNetworkFrontend(pair, queues: 2)
            _ = try eventually(5000) {
                let state = try raw.state()
                return faults.didFail || state == .connected
            }
            guard faults.didFail else {
                try raw.close()
                break
            }
            try raw.wait(for: [.closing])
            let text = try pair.backendError()
            #expect(text.contains("a fault that the test asked for"))
            try raw.closeForAnother()
            expectBaseline(pair.host, baseline)
            let next = try MockNetworkFrontend(pair, queues: 2)
            try next.wait(for: [.connected])
            #expect(try pair.serves(next, queue: number % 2))
            try next.closeForAnother()
            expectBaseline(pair.host, baseline)
            guard number < 30 else { break }
        }
        // Two rings and a bell for each of two queues, a ring and a bell for control.
        #expect(number == 9)
        faults.failCall(0)
        pair.backend.stop()
        #expect(eventually { SharedRegion.liveCount <= regions + 8 && Descriptor.openCount <= descriptors + 8 })
    }

    /// The device fails instead: its n-th queue, or the settings that the frontend's features ask for.
    @Test func B17_theDeviceFails() throws {
        for failing in [0, 1, 2] {
            let device = FailingNetwork(queue: failing)
            let pair = try NetworkPair(backEnd: BackEnd(device))
            let baseline = pair.host.usage
            for _ in 0..<3 {
                let raw = try MockNetworkFrontend(pair, queues: 2)
                try raw.wait(for: [.closing])
                #expect(try pair.backendError().contains("failing"))
                try raw.closeForAnother()
                expectBaseline(pair.host, baseline)
                #expect(device.openQueues == 0)
            }
            device.heal()
            let raw = try MockNetworkFrontend(pair, queues: 2)
            try raw.wait(for: [.connected])
            raw.send([raw.request(size: 60)])
            #expect(try raw.answers(1)[0].status == .okay)
            try raw.close()
            #expect(eventually { device.openQueues == 0 })
            pair.backend.stop()
        }
    }

    /// After a disconnect no event, timer or control message reaches the rings: their memory is fenced, and a touch
    /// would end this process.
    @Test func B18_nothingTouchesARingThatIsUnmapped() throws {
        var options = NetworkBackendOptions()
        options.drainMilliseconds = 20
        let (pair, _) = try faultyPair(options)
        for round in 0..<soak(12) {
            let raw = try MockNetworkFrontend(pair, queues: 2)
            try raw.wait(for: [.connected])
            // A frame that waits for pages (a timer), a packet that waits for nonsense to pass (another), requests on
            // every ring.
            raw.post([0])
            try pair.backWire.send(plainFrame(5000))
            raw.send([raw.request(size: 3)])
            raw.send([raw.request(size: 60)], queue: 1)
            _ = raw.control.push(ControlRequest(id: 1, rawType: 1))
            _ = raw.control.publish()
            usleep(UInt32(round * 700))
            try raw.store.write(raw.path + "/state", round % 2 == 0 ? "6" : "5")
            for _ in 0..<40 {
                for queue in 0..<2 { raw.send([raw.request(size: 60)], queue: queue) }
                raw.bell.notify()
                raw.controlBell.notify()
                usleep(1000)
            }
            try raw.closeForAnother()
            _ = pair.backend.status
        }
        let raw = try MockNetworkFrontend(pair, queues: 2)
        try raw.wait(for: [.connected])
        for queue in 0..<2 { #expect(try pair.serves(raw, queue: queue)) }
        try raw.close()
        pair.backend.stop()
    }

    /// Counters are read all the while that connections come, fail and go.
    @Test func B19_statisticsWhileConnectionsFail() throws {
        let pair = try NetworkPair()
        let isOver = Atomic<Bool>(false)
        let reads = Atomic<Int>(0)
        let backend = pair.backend
        let readers = try (0..<4).map { _ in
            try WorkerThread(name: "reader") {
                var last: UInt64 = 0
                while !isOver.load(ordering: .relaxed) {
                    let queues = backend.status.flatMap(\.queues)
                    let sent = queues.reduce(0) { $0 + $1.transmitted }
                    // Within a connection they only grow; a new one begins at 0.
                    if sent < last, sent > 40 { Issue.record("\(last) frames, then \(sent)") }
                    last = sent
                    reads.wrappingAdd(1, ordering: .relaxed)
                }
            }
        }
        for round in 0..<soak(40) {
            let raw = try MockNetworkFrontend(
                pair, keys: round % 2 == 0 ? ["queue-\(round / 2 % 3)/event-channel": "77777"] : [:], queues: 3)
            try raw.wait(for: [round % 2 == 0 ? .closing : .connected])
            if round % 2 == 1 {
                for index in 0..<30 { raw.send([raw.request(size: 60, id: index)], queue: index % 3) }
            }
            try raw.closeForAnother()
            while try pair.backWire.receive(milliseconds: 0) != nil {}
        }
        isOver.store(true, ordering: .relaxed)
        for reader in readers { reader.join() }
        #expect(reads.load(ordering: .relaxed) > 1000)
        pair.backend.stop()
    }

    /// Keys that say something odd: the connection is refused with a reason, or the key counts as missing.
    @Test(
        arguments: [
            (["feature-sg": "7"], false), (["feature-gso-tcpv4": "x"], false), (["feature-rx-notify": "-1"], false),
            (["request-rx-copy": "2"], false),
            (["feature-no-csum-offload": "999999999999"], false), (["request-multicast-control": "yes"], false),
            (["event-channel-ctrl": ""], true), (["ctrl-ring-ref": "-3"], true),
            (["xdp-headroom": "0"], false), (["xdp-headroom": "4294967296"], false), (["xdp-headroom": "junk"], false),
            (["mac": "ff:ff:ff:ff:ff:ff"], false), (["mac": "junk"], false), (["rate": "1,1"], false), (["mtu": "9"], false),
            (["request-rx-copy": ""], false), (["feature-gso-tcpv6": "1", "feature-ipv6-csum-offload": ""], false),
        ] as [([String: String], Bool)]) func B29_keysOfTheFrontends(_ keys: [String: String], isRefused: Bool) throws
    {
        let seen = Mutex<[NetworkSettings]>([])
        let pair = try NetworkPair(start: { host, device in
            let hypervisor = host.domain(0)
            return try RunningBackend(
                hypervisor, through: hypervisor,
                opener: { (settings) throws(DeviceOpenFailure) in
                    seen.withLock { $0.append(settings) }
                    return device
                })
        })
        let raw = try MockNetworkFrontend(pair, keys: keys)
        try raw.wait(for: [isRefused ? .closing : .connected])
        if isRefused {
            #expect(try !pair.backendError().isEmpty)
        } else {
            #expect(try pair.serves(raw))
            raw.post([1])
            try pair.backWire.send(plainFrame(60))
            #expect(try raw.received().response == ReceiveResponse(id: 1, status: 60), "no headroom")
        }
        #expect(seen.withLock { $0 }.allSatisfy { "\($0.address)" == "00:16:3e:01:02:03" && $0.rate == nil && $0.mtu == 1500 })
        #expect(try pair.node("mac") == "00:16:3e:01:02:03")
        try raw.close()
        pair.backend.stop()
    }
}

/// A device whose n-th queue cannot be opened; with 0, whose offloads cannot be set.
final class FailingNetwork: NetworkDevice {
    let name = "failing"
    let mtu = 1500
    private struct Counts {
        var failing: Int
        var opened = 0
    }
    private let counts: Mutex<Counts>
    private let live = Mutex<[WeakQueue]>([])

    init(queue: Int) { counts = Mutex(Counts(failing: queue)) }

    /// From now on nothing fails.
    func heal() { counts.withLock { $0.failing = -1 } }

    /// Queues that somebody still has.
    var openQueues: Int { live.withLock { $0.count { $0.queue != nil } } }

    func setOffloads(_ offloads: OffloadSet) throws(Errno) {
        try counts.withLock { counts throws(Errno) in
            counts.opened = 0
            if counts.failing == 0 { throw Errno.ioError }
        }
    }

    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue {
        try counts.withLock { counts throws(Errno) in
            counts.opened += 1
            if counts.opened == counts.failing { throw Errno.tooManyOpenFiles }
        }
        let queue = try NullNetwork().openQueue(bus: bus)
        live.withLock { $0.append(WeakQueue(queue: queue)) }
        return queue
    }

    private struct WeakQueue: @unchecked Sendable {
        weak var queue: (any NetworkDeviceQueue)?
    }
}
