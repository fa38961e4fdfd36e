// A disk that does what a test tells it: it holds every operation until it is released, in any order, with any result.

import BlockDevices
import DMA
import LinuxSystem
import Reactor
import Synchronization
import TestSupport

/// A disk under a test's control.
public final class ScriptedDisk: BlockDevice {
    /// Always the same.
    public let name = "scripted"
    /// As given; else 4 MiB, with discards.
    public let geometry: BlockGeometry
    /// Operations begun, in order, by what the backend called them.
    private let begun = Mutex<[(operation: DeviceOperation, tag: UInt32)]>([])
    private let queue = Mutex<ScriptedQueue?>(nil)
    private let flags = Mutex((isAway: false, queueLimit: Int.max))
    /// Whether what it holds waits for something that may come back.
    public var isAway: Bool {
        get { flags.withLock { $0.isAway } }
        set { flags.withLock { $0.isAway = newValue } }
    }
    /// How many queues may be open.
    public var queueLimit: Int {
        get { flags.withLock { $0.queueLimit } }
        set { flags.withLock { $0.queueLimit = newValue } }
    }
    /// Answers for operations that are to end at once; asked first.
    let immediate: @Sendable (DeviceOperation) -> DeviceResult?

    /// A disk that holds whatever `immediate` does not end.
    public init(
        _ geometry: BlockGeometry = BlockGeometry(byteCount: 4 << 20, discard: DiscardLimits(granularity: 512)),
        immediate: @escaping @Sendable (DeviceOperation) -> DeviceResult? = { _ in nil }
    ) {
        self.geometry = geometry
        self.immediate = immediate
    }

    /// Never another.
    public func refreshGeometry() throws(Errno) -> BlockGeometry { geometry }

    /// The queue whose operations are the test's from now on.
    public func openQueue(
        on reactor: Reactor, bus: MemoryBus, depth: Int, owner: any BlockQueueOwner
    ) throws(Errno) -> any BlockDeviceQueue {
        let made = ScriptedQueue(self, reactor, owner)
        queue.withLock { $0 = made }
        return made
    }

    func note(_ operation: DeviceOperation, _ tag: UInt32) { begun.withLock { $0.append((operation, tag)) } }

    /// What has begun so far.
    public var operations: [DeviceOperation] { begun.withLock { $0.map(\.operation) } }

    /// Waits until `count` operations have begun.
    public func wait(for count: Int) -> Bool {
        let deadline = monotonicMilliseconds() + 3000
        while operations.count < count, monotonicMilliseconds() < deadline { sleepMilliseconds(1) }
        return operations.count >= count
    }

    /// Ends the operation that began as number `index`.
    public func end(_ index: Int, _ result: DeviceResult = .done) {
        guard let queue = queue.withLock({ $0 }) else { return }
        let tag = begun.withLock { $0[index].tag }
        queue.reactor.post { queue.end(tag, result) }
    }
}

final class ScriptedQueue: BlockDeviceQueue, @unchecked Sendable {
    let reactor: Reactor
    private let disk: ScriptedDisk
    private let owner: any BlockQueueOwner
    private var held: Set<UInt32> = []
    var inFlight: Int { held.count }

    init(_ disk: ScriptedDisk, _ reactor: Reactor, _ owner: any BlockQueueOwner) {
        self.disk = disk
        self.reactor = reactor
        self.owner = owner
    }

    func submit(_ operation: DeviceOperation, tag: UInt32, segments: Span<BusSegment>) -> DeviceResult? {
        disk.note(operation, tag)
        if let result = disk.immediate(operation) { return result }
        held.insert(tag)
        return nil
    }

    func end(_ tag: UInt32, _ result: DeviceResult) {
        held.remove(tag)
        owner.deviceCompleted(tag: tag, result: result)
    }

    func endWaiting() { if disk.isAway { cancelAll() } }

    func cancelAll() {
        for tag in held.sorted() { end(tag, .failed(.canceled)) }
    }

    func close() {}
}
