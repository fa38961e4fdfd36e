// A device whose queues can be told apart: which thread uses each of them, which of them frames come in at, and a gate
// that holds a queue's thread.

import DMA
import Glibc
import LinuxSystem
import NetworkDevices
import Packets
import Synchronization

/// A device over another, for a backend with several threads.
final class SteeredNetwork: NetworkDevice {
    private let device: any NetworkDevice
    /// Frames come in at the queue that was opened first; else at any.
    private let hasOneInlet: Bool
    private let opened = Atomic<Int>(0)
    private let threads = Mutex<[Int: Set<UInt>]>([:])
    private let gates = Mutex<[Int: Gate]>([:])

    init(_ device: any NetworkDevice, hasOneInlet: Bool = false) { (self.device, self.hasOneInlet) = (device, hasOneInlet) }

    /// Threads that have used each queue, by the order in which queues were opened.
    var users: [Int: Set<UInt>] { threads.withLock { $0 } }
    var distinctThreads: Int { users.values.reduce(into: Set<UInt>()) { $0.formUnion($1) }.count }

    /// Holds the thread of queue `number` at its next frame, until the gate is opened.
    func close(_ number: Int) -> Gate {
        let gate = Gate()
        gates.withLock { $0[number] = gate }
        return gate
    }

    /// Where a thread waits.
    final class Gate: Sendable {
        private let open = Flag()
        private let reached = Flag()
        /// A thread waits there.
        var isReached: Bool { reached.isSet }
        func release() { open.set() }
        func pass() {
            reached.set()
            while !open.isSet { usleep(200) }
        }
    }

    var name: String { device.name }
    var needsOneThread: Bool { device.needsOneThread }
    var mtu: Int { device.mtu }
    func setOffloads(_ offloads: OffloadSet) throws(Errno) { try device.setOffloads(offloads) }
    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue {
        Queue(self, opened.add(1, ordering: .relaxed).oldValue, try device.openQueue(bus: bus))
    }

    private func used(_ number: Int) { _ = threads.withLock { $0[number, default: []].insert(UInt(pthread_self())) } }

    private final class Queue: NetworkDeviceQueue {
        let owner: SteeredNetwork
        let number: Int
        let queue: any NetworkDeviceQueue
        init(_ owner: SteeredNetwork, _ number: Int, _ queue: any NetworkDeviceQueue) {
            (self.owner, self.number, self.queue) = (owner, number, queue)
        }
        func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent {
            owner.used(number)
            owner.gates.withLock { $0.removeValue(forKey: number) }?.pass()
            return queue.send(offload, segments: segments)
        }
        func flush(_ ended: inout [FrameSent]) { queue.flush(&ended) }
        func receive(into segments: Span<BusSegment>) -> FrameReceived {
            if owner.hasOneInlet, number > 0 { return .nothing }
            let result = queue.receive(into: segments)
            if case .frame = result { owner.used(number) }
            return result
        }
        var descriptor: Descriptor? { owner.hasOneInlet && number > 0 ? nil : queue.descriptor }
        var roomDescriptor: Descriptor? { queue.roomDescriptor }
        var statistics: NetworkDeviceStatistics { queue.statistics }
        func close() { queue.close() }
    }
}

/// A device that only one thread may use.
final class OneThreadNetwork: NetworkDevice {
    private let device: any NetworkDevice
    init(_ device: any NetworkDevice) { self.device = device }
    var name: String { device.name }
    var mtu: Int { device.mtu }
    var needsOneThread: Bool { true }
    func setOffloads(_ offloads: OffloadSet) throws(Errno) { try device.setOffloads(offloads) }
    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { try device.openQueue(bus: bus) }
}
