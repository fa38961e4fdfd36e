// One interface on several threads: each queue has its own, and what all of them must know reaches all of them.

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

@Suite("Several reactors", .timeLimit(.minutes(3)), .serialized)
struct ReactorsTests {
    func options(_ reactors: Int, _ directory: TemporaryDirectory? = nil) -> NetworkBackendOptions {
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
    ) throws -> (NetworkPair, MockNetworkFrontend, SteeredNetwork) {
        let wire = try Wire("back")
        let device = SteeredNetwork(wire.network, hasOneInlet: hasOneInlet)
        let pair = try NetworkPair(options(reactors), backEnd: BackEnd(device, of: wire))
        let raw = try MockNetworkFrontend(pair, keys: keys, queues: queues)
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
    func spread(_ raw: MockNetworkFrontend) throws -> ToeplitzHash {
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
    func queue(_ frame: [UInt8], _ hash: ToeplitzHash, _ raw: MockNetworkFrontend) -> Int {
        Int(hash.hash(frame[26..<34]) % UInt32(raw.queues.count))
    }

    /// Takes the next frame of a queue, with its hash; its bytes.
    func received(_ raw: MockNetworkFrontend, _ queue: Int, hashed: Bool = true) throws -> [UInt8] {
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

    /// Queues take turns, interfaces begin at the next; what one thread must use is on the same thread for all
    /// interfaces: both ends of a cable.
    @Test func interfacesTakeTurnsAndCablesDoNot() throws {
        let all = try (0..<3).map { try Reactor(name: "turn-\($0)", time: .system) }
        let wire = try Wire("turn").network
        func names(_ device: any NetworkDevice, _ number: Int, _ queues: Int) -> [String] {
            ReactorAssignment(all, interface: number).reactors(for: device, queues: queues).map(\.name)
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
            VifSpecification(parsing: "mac=00:16:3e:01:02:04"), frontend: DomainID(1), backend: DomainID(0), random: .system)
        for paths in [pair.paths, second] {
            let raw = try MockNetworkFrontend(pair, paths: paths)
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
        let most = SteeringBudget.limit / SteeringBudget.leastCharge
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
}
