// One thread's way to a file: operations in, io_uring entries out, completions back. The shared pages go to the kernel
// as they are; only what is not aligned for direct I/O is copied.

import CLinux
import DMA
import Glibc
import LinuxSystem
import Reactor
import SharedMemory
import Synchronization

/// One operation's record, reused; its index is its tag on the reactor.
final class FileRequest {
    var operation = DeviceOperation.flush
    var tag: UInt32 = 0
    let vectors = VectorList()
    /// Bytes moved so far, for the offset.
    var moved: UInt64 = 0
    /// How it is being made zero, if that is what is asked.
    var zeroMethod = ZeroMethod.hole
    var bounce: AlignedBuffer?
    var flight: Flight?
    var retries = 0
    var isActive = false
}

final class FileQueue: BlockDeviceQueue, ReactorClient {
    let disk: FileDisk
    let reactor: Reactor
    private let bus: MemoryBus
    private let depth: Int
    private var owner: (any BlockQueueOwner)?
    private(set) var slot: ReactorSlot?
    let file: ReactorFile
    private var geometry: BlockGeometry
    private var geometryVersion = 0
    private var requests: [FileRequest] = []
    private var free: [UInt32] = []
    /// Begun beyond `depth`: they wait in order for one that ends.
    private var waiting: [UInt32] = []
    private var active = 0
    private(set) var isCancelling = false
    private var isClosed = false
    var blockDiscard = BlockDiscardMethod.ring
    /// What the file system or device has not refused so far.
    var zeroMethods = ZeroMethods()
    var statistics = DeviceStatistics()

    init(disk: FileDisk, reactor: Reactor, bus: MemoryBus, depth: Int, owner: any BlockQueueOwner) {
        self.disk = disk
        self.reactor = reactor
        self.bus = bus
        self.depth = max(depth, 1)
        self.owner = owner
        geometryVersion = disk.version.load(ordering: .acquiring)
        geometry = disk.geometry
        file = reactor.addFile(disk.descriptor)
        slot = reactor.attach(self)
    }

    var inFlight: Int { active + waiting.count }

    func submit(_ operation: DeviceOperation, tag: UInt32, segments: Span<BusSegment>) -> DeviceResult? {
        statistics.submitted &+= 1
        guard slot != nil, !isClosed else { return refuse(.canceled) }
        let index = free.popLast() ?? newRequest()
        let request = requests[Int(index)]
        let direction: DMADirection = if case .read = operation { .fromDevice } else { .toDevice }
        guard request.vectors.load(segments, bus, direction) else { return refuse(.badAddress, index) }
        if let refusal = refusal(of: operation, byteCount: request.vectors.total) { return refuse(refusal, index) }
        // What was only read needs no flush.
        if operation == .flush && !geometry.canFlush {
            free.append(index)
            statistics.flushes &+= 1
            return .done
        }
        request.operation = operation
        request.tag = tag
        request.moved = 0
        request.retries = 0
        if let result = performNow(request) {
            statistics.count(operation, byteCount: request.vectors.total, result)
            free.append(index)
            return result
        }
        if needsBounce(request) {
            guard makeBounce(request) else { return refuse(.noMemory, index) }
        }
        request.flight = bus.beginFlight()
        if active < depth { start(index, request) } else { waiting.append(index) }
        return nil
    }

    func cancelAll() {
        guard let slot, inFlight > 0 else { return }
        isCancelling = true
        for (index, request) in requests.enumerated() where request.isActive { reactor.cancel(slot, tag: UInt32(index)) }
    }

    func close() {
        isClosed = true
        owner = nil
        if inFlight == 0 { leave() }
    }

    func completed(tag: UInt32, result: Int32) {
        let request = requests[Int(tag)]
        switch advance(request, result) {
        case .again: begin(tag, request)
        case .ended(let outcome): end(tag, request, outcome)
        }
    }

    func poll() -> Bool { false }
    func prepareToSleep() -> Bool { false }

    private func refusal(of operation: DeviceOperation, byteCount: UInt64) -> Errno? {
        let version = disk.version.load(ordering: .acquiring)
        if version != geometryVersion {
            geometryVersion = version
            geometry = disk.geometry
        }
        return geometry.refusal(of: operation, byteCount: byteCount)
    }

    private func start(_ index: UInt32, _ request: FileRequest) {
        active += 1
        request.isActive = true
        begin(index, request)
    }

    private func end(_ index: UInt32, _ request: FileRequest, _ result: DeviceResult) {
        active -= 1
        request.isActive = false
        if let flight = request.flight.take() { bus.endFlight(flight) }
        request.bounce = nil
        statistics.count(request.operation, byteCount: request.vectors.total, result)
        let tag = request.tag
        free.append(index)
        owner?.deviceCompleted(tag: tag, result: result)
        startWaiting()
        if active == 0 { isCancelling = false }
        if isClosed && inFlight == 0 { leave() }
    }

    private func startWaiting() {
        while active < depth, !waiting.isEmpty {
            let index = waiting.removeFirst()
            let request = requests[Int(index)]
            if isCancelling {
                active += 1
                end(index, request, .failed(.canceled))
            } else {
                start(index, request)
            }
        }
    }

    private func refuse(_ error: Errno, _ index: UInt32? = nil) -> DeviceResult {
        if let index { free.append(index) }
        statistics.errors &+= 1
        return .failed(error)
    }

    private func newRequest() -> UInt32 {
        requests.append(FileRequest())
        return UInt32(requests.count - 1)
    }

    private func leave() {
        guard let slot = self.slot.take() else { return }
        reactor.detach(slot)
        reactor.removeFile(file)
    }
}
