// One thread's way to a namespace: operations in, commands out, completions back. What the
// bus tells of the segments goes into the commands as it is; no byte of the data is looked at here.

import BlockDevices
import DMA
import LinuxSystem
import Reactor
import SharedMemory

/// A namespace's queue. Owned by its reactor's thread.
final class NVMeQueue: BlockDeviceQueue, ReactorClient {
    /// What the reactor's answers are for.
    enum Tag {
        static let interrupt: UInt32 = 0
        static let tick: UInt32 = 1
        static let recreated: UInt32 = 2
        /// Another pair was told of the line that all raise.
        static let look: UInt32 = 3
        /// This pair is the one that waits for it from now on.
        static let wait: UInt32 = 4
    }

    let disk: NVMeDisk
    let controller: NVMeController
    let port: any NVMePort
    let reactor: Reactor
    let bus: MemoryBus
    let hot: OwnedState<NVMeQueueState>
    private(set) var slot: ReactorSlot?
    private let event: Descriptor
    private var owner: (any BlockQueueOwner)?
    private var isClosed = false
    private var isTicking = false
    /// Whether the controller knows the pair.
    var isCreated = true
    /// The controller's resets that this queue has seen.
    var generation: Int
    /// What is being done about a command that takes too long.
    var rescue: Rescue?
    var statistics = DeviceStatistics()
    private var geometry: BlockGeometry
    private var geometryVersion: Int
    /// What became of a predecessor's commands, and how many more operations may be repetitions of its; nil: none.
    private var inherited: InheritedCommands?
    private var repeats = 0

    init(disk: NVMeDisk, reactor: Reactor, bus: MemoryBus, owner: any BlockQueueOwner) throws(NVMeError) {
        let controller = disk.controller
        guard let number = controller.takeQueue() else {
            throw .resources("another queue", reason: "all \(controller.queueLimit) are in use", .busy)
        }
        generation = controller.generation.load(ordering: .acquiring)
        do throws(NVMeError) {
            let memory = try controller.memory(ofQueue: number)
            let ledger = controller.ledger?.queue(number)
            ledger?.blockShift = UInt32(disk.namespace.blockShift)
            let rings = QueueRings(number, controller.capabilities, memory, ledger: ledger)
            do throws(NVMeError) { try controller.create(rings.place) } catch {
                controller.giveBack(memory.region, ofQueue: number)
                throw error
            }
            hot = OwnedState(NVMeQueueState(rings, disk.namespace, mostBytes: controller.transferByteCount))
        } catch {
            controller.giveBackQueue(number)
            throw error
        }
        self.disk = disk
        geometryVersion = disk.version.load(ordering: .acquiring)
        geometry = disk.geometry
        self.controller = controller
        port = controller.port
        self.reactor = reactor
        self.bus = bus
        self.owner = owner
        event = controller.events[controller.vector(of: number)]
        let slot = reactor.attach(self)
        self.slot = slot
        if let line = controller.line {
            guard line.join(number, SharedInterrupt.Member(reactor: reactor, slot: slot)) else { return }
        } else {
            // What it counted before is nothing of ours.
            port.takeInterrupt(event)
        }
        reactor.whenReadable(event, slot, tag: Tag.interrupt)
    }

    var inFlight: Int { hot.value.active }

    // MARK: Operations

    func submit(_ operation: DeviceOperation, tag: UInt32, segments: Span<BusSegment>) -> DeviceResult? {
        statistics.submitted &+= 1
        guard slot != nil, !isClosed else { return refuse(.canceled) }
        if controller.lost.load(ordering: .relaxed) {
            startTicking()
            return refuse(.ioError)
        }
        var total: UInt64 = 0
        let direction: DMADirection = if case .read = operation { .fromDevice } else { .toDevice }
        var addresses: UInt64 = 0
        for index in segments.indices {
            guard bus.isPlaced(segments[index], direction) else { return refuse(.badAddress) }
            total &+= UInt64(segments[index].byteCount)
            addresses |= segments[index].address.rawValue
        }
        followGeometry()
        if let refusal = geometry.refusal(of: operation, byteCount: total) { return refuse(refusal) }
        if addresses & 3 != 0 || !isWholeBlocks(operation, total) { return refuse(.invalidArgument) }
        if operation == .flush && !geometry.canFlush {
            statistics.flushes &+= 1
            return .done
        }
        let index = hot.value.begin(operation, tag: tag, segments, on: bus, byteCount: total)
        if repeats > 0 {
            repeats -= 1
            hot.value.requests[Int(index)].isRepeat = true
        }
        hot.value.waiting.append(index)
        issue()
        startTicking()
        return nil
    }

    private func followGeometry() {
        let version = disk.version.load(ordering: .acquiring)
        if version == geometryVersion { return }
        geometryVersion = version
        geometry = disk.geometry
    }

    private func isWholeBlocks(_ operation: DeviceOperation, _ total: UInt64) -> Bool {
        let mask = hot.value.blockMask
        return switch operation {
        case .read(let offset), .write(let offset, _): (offset | total) & mask == 0
        case .flush: true
        case .discard(let offset, let count, _), .writeZeroes(let offset, let count, _): (offset | count) & mask == 0
        }
    }

    private func refuse(_ error: Errno) -> DeviceResult {
        statistics.errors &+= 1
        return .failed(error)
    }

    /// Turns what waits into commands, as far as there is room. The controller hears of them at the turn's end.
    func issue() {
        guard isCreated else { return }
        while let index = hot.value.waiting.first {
            if !hot.value.isMade(index) {
                guard hot.value.hasRoom else { return }
                hot.value.issueNext(index, inherited)
                continue
            }
            hot.value.waiting.removeFirst()
            if hot.value.isOver(index) { hot.value.over.append(index) }
        }
    }

    func expectRepeats(_ count: Int) {
        repeats = count
        inherited = controller.inherited
    }

    /// What is not begun ends; what the device has, it does.
    func cancelAll() {
        hot.value.cancelWaiting()
    }

    func close() {
        isClosed = true
        owner = nil
        if inFlight == 0 { leave() }
    }

    // MARK: The reactor's turns

    func poll() -> Bool {
        if generation != controller.generation.load(ordering: .relaxed) { followReset() }
        let worked = drain()
        ring()
        return worked
    }

    func prepareToSpin() { ring() }

    func prepareToSleep() -> Bool { poll() }

    private func ring() { if isCreated { hot.value.rings.ring(port) } }

    func completed(tag: UInt32, result: Int32) {
        guard let slot else { return }
        switch tag {
        case Tag.interrupt:
            interrupted()
            // It may have ended all that there was, and this queue with it.
            if self.slot != nil { reactor.whenReadable(event, slot, tag: Tag.interrupt) }
        case Tag.look:
            _ = drain()
            controller.line?.looked(hot.value.rings.number)
        case Tag.wait: reactor.whenReadable(event, slot, tag: Tag.interrupt)
        case Tag.recreated: recreated(generation: Int(result))
        default:
            isTicking = false
            tick()
            startTicking()
        }
    }

    /// The vector was raised. A line is armed again when all who raise it have looked.
    private func interrupted() {
        guard let line = controller.line else {
            port.takeInterrupt(event)
            _ = drain()
            return
        }
        line.raised(by: hot.value.rings.number)
        _ = drain()
        line.looked(hot.value.rings.number)
    }

    /// A second's beat, while there is something that may take too long, or a controller that may come back.
    func startTicking() {
        guard !isTicking, !isClosed || inFlight > 0, inFlight > 0 || controller.mayReturn, let slot else { return }
        isTicking = true
        reactor.after(microseconds: 1_000_000, slot, tag: Tag.tick)
    }

    /// Takes what has been completed, a queue's length at most: a controller that never stops completing does not keep
    /// the thread. True if there was something.
    func drain() -> Bool {
        var count = 0
        while isCreated, count < hot.value.rings.completionEntries, let completion = hot.value.rings.next() {
            count += 1
            guard hot.value.settle(completion) else { return misbehaved(completion) }
            if completion.status.isSuccess { controller.noteProgress() }
        }
        // Each was read before the controller may write over it.
        if count > 0 {
            hot.value.rings.acknowledge(port)
            issue()
        }
        if hot.value.over.isEmpty { return count > 0 }
        endRequests()
        return true
    }

    /// Tells the owner what is over; it may submit more meanwhile.
    func endRequests() {
        while let index = hot.value.over.popLast() {
            let (operation, tag, result, byteCount) = hot.value.take(index)
            if let flight = hot.value.requests[Int(index)].flight.take() { bus.endFlight(flight) }
            statistics.count(operation, byteCount: byteCount, result)
            owner?.deviceCompleted(tag: tag, result: result)
        }
        if isClosed && inFlight == 0 { leave() }
    }

    /// A completion of no command of ours: nothing that this controller says can be trusted any more.
    private func misbehaved(_ completion: NVMeCompletion) -> Bool {
        controller.giveUp(
            "queue \(hot.value.rings.number): a completion of command \(completion.identifier), which is not under way "
                + "(\(completion.status))", mayReturn: false)
        followReset()
        return true
    }

    private func leave() {
        guard let slot = slot.take() else { return }
        reactor.detach(slot)
        controller.line?.leave(hot.value.rings.number)
        let (number, region) = (hot.value.rings.number, hot.value.rings.region)
        let isLost = controller.lost.load(ordering: .relaxed)
        if isCreated, !isLost, !controller.delete(number) {
            // Its memory must not be anybody's while the controller knows it.
            controller.giveUp("queue \(number) cannot be deleted")
        }
        controller.giveBack(region, ofQueue: number)
        controller.giveBackQueue(number)
    }
}
