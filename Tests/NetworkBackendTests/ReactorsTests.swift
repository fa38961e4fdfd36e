// One interface on several threads: each queue has its own, and what all of them must know reaches all of them.

import DriverSupport
import Foundation
import FrameTrace
import HostDevices
import Hypervisor
import InProcessHypervisor
import LinuxSystem
@testable import NetworkBackend
import NetworkFrontend
import Packets
import Reactor
import SharedMemory
import SharedRing
import Synchronization
import TestSupport
import Testing
import Toolstack
import XenBus
import XenWire

@Suite("Several reactors", .timeLimit(.minutes(3)), .serialized)
struct ReactorsTests {
    func options(_ reactors: Int, _ directory: ScratchDirectory? = nil) -> NetworkBackendOptions {
        var options = NetworkBackendOptions()
        options.reactors = reactors
        options.journalDirectory = directory?.path
        // A thread that spins for an answer which it can only get by sleeping shows at once.
        options.polling = .sleep
        return options
    }

    /// A pair whose backend has two threads, and a frontend of `queues` queues.
    func connected(
        _ queues: Int = 2, reactors: Int = 2, keys: [String: String] = [:], hasOneInlet: Bool = false
    ) throws -> (NetworkPair, RawVif, SteeredNetwork) {
        let wire = try Wire("back")
        let device = SteeredNetwork(wire.network, hasOneInlet: hasOneInlet)
        let pair = try NetworkPair(options(reactors), backDevice: device, wire: wire)
        let raw = try RawVif(pair, keys: keys, queues: queues)
        try raw.wait(for: [.connected])
        try waitForStatus(pair, queues)
        return (pair, raw, device)
    }

    /// The connection is told of a moment after it is there.
    func waitForStatus(_ pair: NetworkPair, _ queues: Int) throws {
        guard eventually(3000, { pair.backend.status.first?.queues.count == queues }) else {
            throw TimedOut("\(pair.backend.status)")
        }
    }

    /// Spreads frames over all queues by their addresses.
    func spread(_ raw: RawVif) throws -> ToeplitzHash {
        let page = raw.data.references[50].rawValue
        let key = (0..<40).map { UInt8($0 * 5 + 1) }
        raw.data.region.write(key, at: 50 * 4096)
        #expect(try raw.ask(7, 1).status == .success && raw.ask(2, 15).status == .success)
        #expect(try raw.ask(3, page, 40).status == .success)
        return ToeplitzHash(key: key)
    }

    func frame(_ flow: UInt8, payload: Int = 20, seed: Int = 0) -> [UInt8] {
        TestFrame(version: 4, transport: .udp, payload: payload, flow: flow, seed: seed).bytes
    }

    /// The queue that `frame` is for.
    func queue(_ frame: [UInt8], _ hash: ToeplitzHash, _ raw: RawVif) -> Int {
        Int(hash.hash(frame[26..<34]) % UInt32(raw.queues.count))
    }

    /// Takes the next frame of a queue, with its hash; its bytes.
    func received(_ raw: RawVif, _ queue: Int, hashed: Bool = true) throws -> [UInt8] {
        var bytes: [UInt8] = []
        var isFirst = true
        while true {
            let response = try raw.received(queue: queue).response
            guard response.status > 0 else { throw TimedOut("a frame without error; got \(response)") }
            bytes += raw.data.region.bytes(at: Int(response.id) * 4096, count: Int(response.status))
            if isFirst, hashed { #expect(try raw.received(queue: queue).extra.type == .hash) }
            isFirst = false
            if !response.flags.contains(.moreData) { return bytes }
        }
    }

    /// Queues take turns, interfaces begin at the next; what one thread must use is on the same thread for all interfaces: both ends of a cable.
    @Test func interfacesTakeTurnsAndCablesDoNot() throws {
        let all = try (0..<3).map { try Reactor(name: "turn-\($0)") }
        let wire = try Wire("turn").network
        func names(_ device: any NetworkDevice, _ number: Int, _ queues: Int) -> [String] {
            ReactorTurn(all, interface: number).reactors(for: device, queues: queues).map(\.name)
        }
        #expect(names(wire, 0, 1) == ["turn-0"] && names(wire, 1, 1) == ["turn-1"] && names(wire, 5, 1) == ["turn-2"])
        #expect(names(wire, 2, 2) == ["turn-2", "turn-0"] && names(wire, 1, 8) == ["turn-1", "turn-2", "turn-0"])
        for number in 0..<4 { #expect(names(OneThreadNetwork(wire), number, 4) == ["turn-0"]) }
    }

    @Test(arguments: [(1, 2), (2, 2), (4, 2), (3, 2), (2, 3), (4, 1)])
    func eachQueueHasItsOwnThread(queues: Int, reactors: Int) throws {
        let (pair, raw, device) = try connected(queues, reactors: reactors)
        for round in 0..<20 {
            for queue in 0..<queues {
                let frame = plainFrame(100 + round, seed: queue)
                raw.data.region.write(frame, at: queue * 4096)
                raw.send([raw.request(page: queue, size: frame.count, id: queue)], queue: queue)
                #expect(try raw.answers(1, queue: queue)[0].status == .okay)
                #expect(try pair.backWire.receive()?.frame == frame)
            }
        }
        let groups = min(queues, RunningBackend.reactors(reactors))
        #expect(device.users.count == queues && device.users.values.allSatisfy { $0.count == 1 })
        #expect(device.distinctThreads == groups)
        // Opened group by group: queue n is group n % groups's.
        let order = (0..<groups).flatMap { stride(from: $0, to: queues, by: groups) }
        for (place, queue) in order.enumerated() {
            for (other, second) in order.enumerated() where queue % groups == second % groups {
                #expect(device.users[place] == device.users[other])
            }
        }
        // Counters are shown after a turn, and answers within it.
        #expect(eventually { pair.backend.status[0].queues.map(\.transmitted) == Array(repeating: 20, count: queues) })
        try raw.close()
        pair.backend.stop()
    }

    /// Interfaces of one queue each are dealt out, too.
    @Test func interfacesBeginAtTheNextThread() throws {
        let wires = try (0..<2).map { try Wire("back\($0)") }
        let devices = wires.map { SteeredNetwork($0.network) }
        let pair = try NetworkPair(
            options(2),
            start: { host, _ in
                let hypervisor = host.domain(0)
                return try RunningBackend(
                    hypervisor, through: hypervisor, options(2),
                    opener: { (settings) throws(DeviceOpenFailure) in devices[Int(settings.device.number)] })
            })
        let second = try pair.toolstack.create(
            VifSpecification(parsing: "mac=00:16:3e:01:02:04"), frontend: DomainID(1), backend: DomainID(0))
        for paths in [pair.paths, second] {
            let raw = try RawVif(pair, paths: paths)
            try raw.wait(for: [.connected])
            raw.send([raw.request(size: 60)])
            #expect(try raw.answers(1)[0].status == .okay)
            try raw.close()
        }
        for wire in wires { #expect(try wire.receive()?.frame.count == 60) }
        let used = devices.map { $0.users[0] ?? [] }
        #expect(used.allSatisfy { $0.count == 1 } && used[0] != used[1])
        pair.backend.stop()
    }

    /// Frames that come in at one thread and are for a queue of the other arrive there, whole, in order and once.
    @Test(arguments: [2, 4]) func framesForAnotherThreadsQueue(queues: Int) throws {
        let (pair, raw, device) = try connected(queues, hasOneInlet: true)
        let hash = try spread(raw)
        var counts = Array(repeating: 0, count: queues)
        var next = counts
        /// Posts pages of the queue's own twelve, in turn: as many as will be used, so that no two frames share one.
        func post(_ count: Int, _ queue: Int) {
            raw.post((0..<count).map { queue * 12 + (next[queue] + $0) % 12 }, queue: queue)
            next[queue] += count
        }
        // A queue without any page takes nothing from its device.
        post(1, 0)
        for round in 0..<12 {
            let frames = (0..<UInt8(4)).map {
                frame(UInt8(round) * 4 + $0, payload: [20, 1400, 5000, 9000][Int($0)], seed: round)
            }
            let targets = frames.map { queue($0, hash, raw) }
            // Its pages, and a slot for the hash.
            for (frame, target) in zip(frames, targets) { post((frame.count + 4095) / 4096 + 1, target) }
            for frame in frames { try pair.backWire.send(frame) }
            for (frame, target) in zip(frames, targets) {
                expectSame(try received(raw, target), frame)
                counts[target] += 1
            }
        }
        #expect(counts.allSatisfy { $0 > 2 }, "the flows missed a queue: \(counts)")
        #expect(device.users.keys.sorted() == [0], "frames come in at the first queue alone")
        #expect(eventually { pair.backend.status[0].queues.map { Int($0.received) } == counts })
        #expect(pair.backend.total.receiveDropped == 0)
        try raw.close()
        pair.backend.stop()
    }

    /// A thread that is held up has no more than a budget's worth of frames waiting for it; all others are counted.
    @Test func whatIsUnderWayIsBounded() throws {
        let (pair, raw, device) = try connected(hasOneInlet: true)
        let hash = try spread(raw)
        let flow = try #require((0..<100).first { queue(frame($0), hash, raw) == 1 })
        for _ in 0..<4 { raw.post(Array(0..<48), queue: 1) }
        raw.post(Array(0..<20), queue: 0)
        let gate = device.close(1)
        raw.send([raw.request(size: 60)], queue: 1)
        #expect(eventually { gate.isReached })
        let most = HandOverBudget.limit / HandOverBudget.leastCharge
        for _ in 0..<most + 100 { try pair.backWire.send(frame(flow)) }
        #expect(eventually { pair.backend.status[0].queues[0].receiveDropped == 100 })
        // The other thread is not held up.
        let own = try #require((0..<100).first { queue(frame($0), hash, raw) == 0 })
        try pair.backWire.send(frame(own))
        #expect(try received(raw, 0) == frame(own))
        gate.release()
        // Each frame takes two of the 192 slots.
        for _ in 0..<96 { #expect(try received(raw, 1) == frame(flow)) }
        #expect(eventually { pair.backend.status[0].queues[1].receiveDropped == UInt64(most - 96 - 1) })
        // The budget is back.
        raw.post(Array(0..<48), queue: 1)
        #expect(try received(raw, 1) == frame(flow), "the one that waited for pages")
        for _ in 0..<20 {
            try pair.backWire.send(frame(flow))
            #expect(try received(raw, 1) == frame(flow))
        }
        #expect(pair.backend.status[0].queues[0].receiveDropped == 100)
        try raw.close()
        pair.backend.stop()
    }

    /// A request that concerns another thread is answered when that has done it, and those behind it wait, without anybody spinning.
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

    /// Pages are mapped and unmapped while their queue's thread sends from them and receives into them: every frame is whole, mapped or copied.
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
        let pair = try NetworkPair(options, backDevice: device, wire: wire)
        let raw = try RawVif(pair, queues: 2)
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
        #expect(device.carrier.withLock { $0 }.last == true)
        pair.backend.stop()
    }
}
