// A backend returns that takes another number of queues than the last: the frontend connects with as many as it takes.

import DMA
import Glibc
import LinuxSystem
@testable import NetworkBackend
import NetworkDevices
import NetworkFrontend
import Packets
import Synchronization
import TestHosts
import Testing
import TestSupport

@Suite("The number of queues at a reconnect", .timeLimit(.minutes(1)))
struct QueueCountTests {
    private func options(_ queues: UInt32) -> NetworkBackendOptions {
        var options = NetworkBackendOptions()
        options.queues = queues
        return options
    }

    @Test(arguments: [1, 2, 5]) func followsTheBackendDownAndUp(reactors: Int) throws {
        let pair = try NetworkPair(options(4), backendDomain: 3)
        var wishes = NetworkFrontendOptions()
        wishes.queues = 3
        wishes.reactors = reactors
        let frontend = try pair.connect(wishes)
        let mapped = pair.host.usage.mappings
        var backend = pair.backend
        var sent: UInt64 = 0
        for (round, (offered, used)) in [(4, 3), (1, 1), (2, 2), (8, 3), (1, 1), (3, 3)].enumerated() {
            if round > 0 {
                backend.killAtOnce()
                backend = try RunningBackend(pair.host, domain: 3, options(UInt32(offered)), device: pair.backWire.network)
            }
            #expect(eventually(5000) { frontend.connectionCount == round + 1 && frontend.isLive })
            #expect(frontend.failure == nil)
            let path = pair.paths.frontendPath
            let count = try pair.toolstack.store.value(path + "/multi-queue-num-queues") ?? "1"
            #expect(count == "\(used)")
            #expect(frontend.mappedPages == 512 * used)
            try pair.exchange(30, seed: round * 100)
            sent += 30
            // What queues counted that are no more is not lost.
            #expect(eventually { frontend.statistics.reduce(0) { $0 + $1.transmitted } == sent })
            #expect(frontend.statistics.count == used)
        }
        #expect(eventually { pair.host.usage.mappings == mapped }, "mappings of earlier queues are left")
        frontend.close()
        backend.stop()
        #expect(eventually { pair.host.usage.mappings == 0 && pair.host.usage.pages == 0 }, "\(pair.host.usage)")
    }

    /// A device that spreads frames over its queues gives none to a queue that nobody serves.
    @Test(arguments: [1, 2]) func aDeviceHasAsManyQueuesOpenAsAreServed(reactors: Int) throws {
        let pair = try NetworkPair(options(4), backendDomain: 3)
        let device = CountingDevice(pair.frontWire.network)
        var wishes = NetworkFrontendOptions()
        wishes.queues = 4
        wishes.reactors = reactors
        let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: device, options: wishes)
        try frontend.connect()
        #expect(device.open == 4)
        pair.backend.killAtOnce()
        let next = try RunningBackend(pair.host, domain: 3, options(2), device: pair.backWire.network)
        #expect(eventually(5000) { frontend.connectionCount == 2 && frontend.isLive })
        #expect(device.open == 2)
        frontend.close()
        #expect(device.open == 0)
        next.stop()
    }
}

extension QueueCountTests {
    /// Each queue of a frontend has one thread, and two queues have two.
    @Test(arguments: [(3, 2), (2, 2), (2, 1), (1, 2), (2, 8)]) func queuesTakeTurnsOnTheReactors(queues: Int, reactors: Int) throws
    {
        let pair = try NetworkPair(options(4))
        let device = SteeredNetwork(pair.frontWire.network)
        var wishes = NetworkFrontendOptions()
        wishes.queues = queues
        wishes.reactors = reactors
        let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: device, options: wishes)
        try frontend.connect()
        // All share one socket: whoever looks first has the next frame.
        var round = 0
        #expect(
            try eventually(20_000) {
                round += 1
                try pair.exchange(20, seed: round)
                return device.users.count == queues
            }, "\(device.users)")
        #expect(device.users.values.allSatisfy { $0.count == 1 } && device.distinctThreads == min(queues, reactors))
        #expect(frontend.statistics.count == queues)
        #expect(eventually { frontend.statistics.allSatisfy { $0.transmitted + $0.received > 0 } })
        frontend.close()
        pair.backend.stop()
    }

    /// A queue that cannot be opened, on whichever thread: those that were are closed again, and the reason is told.
    @Test(arguments: 0..<4) func aQueueThatCannotBeOpenedLeavesNone(failing: Int) throws {
        let pair = try NetworkPair(options(4))
        let device = CountingDevice(pair.frontWire.network, failing: failing)
        let before = pair.host.usage
        var wishes = NetworkFrontendOptions()
        wishes.queues = 4
        wishes.reactors = 2
        let frontend = try NetworkFrontend(hypervisor: pair.guest, number: 0, device: device, options: wishes)
        #expect { try frontend.connect() } throws: { "\($0)".contains("opening a queue") }
        #expect(device.open == 0)
        frontend.close()
        #expect(eventually { pair.host.usage.mappings == before.mappings && pair.host.usage.pages == before.pages })
        pair.backend.stop()
    }
}

/// Counts the queues that are open on another device.
private final class CountingDevice: NetworkDevice {
    private let device: any NetworkDevice
    private let count = Atomic<Int>(0)
    var open: Int { count.load(ordering: .relaxed) }

    private let opened = Atomic<Int>(0)
    private let failing: Int

    /// - Parameter failing: the queue that cannot be opened, by number.
    init(_ device: any NetworkDevice, failing: Int = -1) { (self.device, self.failing) = (device, failing) }

    var name: String { device.name }
    var mtu: Int { device.mtu }
    func setOffloads(_ offloads: OffloadSet) throws(Errno) { try device.setOffloads(offloads) }
    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue {
        if opened.add(1, ordering: .relaxed).oldValue == failing { throw Errno(EMFILE) }
        let queue = try device.openQueue(bus: bus)
        count.add(1, ordering: .relaxed)
        return Queue(self, queue)
    }

    private final class Queue: NetworkDeviceQueue {
        let owner: CountingDevice
        let queue: any NetworkDeviceQueue
        init(_ owner: CountingDevice, _ queue: any NetworkDeviceQueue) { (self.owner, self.queue) = (owner, queue) }
        func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent { queue.send(offload, segments: segments) }
        func flush(_ ended: inout [FrameSent]) { queue.flush(&ended) }
        func receive(into segments: Span<BusSegment>) -> FrameReceived { queue.receive(into: segments) }
        var descriptor: Descriptor? { queue.descriptor }
        var statistics: NetworkDeviceStatistics { queue.statistics }
        func close() {
            owner.count.subtract(1, ordering: .relaxed)
            queue.close()
        }
    }
}
