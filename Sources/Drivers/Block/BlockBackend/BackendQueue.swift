// A queue on its reactor: wakes up, lets the model work, arms the doorbell, closes down. Everything here runs on the
// reactor's thread.

import BlockDevices
import BlockModel
import BlockProtocol
import DMA
import DeviceControl
import DeviceFaults
import DeviceTrace
import DriverRuntime
import Glibc
import Hypervisor
import LinuxSystem
import Reactor
import RingFaults
import SharedMemory
import SharedRing
import Synchronization
import XenTypes

/// What a queue tells the control thread.
enum QueueReport: Sendable {
    /// The frontend broke the ring; the queue takes nothing more from it.
    case broken(String)
    /// A grant could not be mapped because of a limit here, and its request failed. Said once.
    case shortage(String)
    /// Whoever held the other end of a doorbell of this connection is gone.
    case frontendGone(connection: Int)
    /// The disk refused an operation that was offered.
    case lostFlush
    case lostDiscard
    /// Something went wrong with memory: a line for the log.
    case trouble(String)
    /// Somebody wants the disk's size looked at.
    case sizeWanted
    /// Everything that was mapped is unmapped; the queue is no more.
    case closed
}

/// What a queue serves, and for whom.
struct QueuePlan {
    let reactor: Reactor
    let channel: any EventChannel
    let rings: any ContiguousGrants
    let abi: BlockABI
    let device: any BlockDevice
    let validator: BlockRequestValidator
    /// The most grants that stay mapped; nil: none does.
    let persistentGrants: Int?
    let dma: DMADevice
    let frontend: DomainID
    let hypervisor: any Hypervisor
    let start: RingStart
    /// What is to go wrong on purpose; nil: nothing can.
    var faults: FaultBook?
}

/// One backend queue, from connection to disconnection.
final class BackendQueue: ReactorClient, BlockQueueOwner, @unchecked Sendable {
    private let reactor: Reactor
    private let rings: any ContiguousGrants
    private let report: @Sendable (QueueReport) -> Void
    private var model: BlockModel<XenBlockTransport>
    private let owner: OwnerProxy
    private var doorbell: Doorbell
    private var slot: ReactorSlot?
    /// Whether nothing is taken from the frontend until whoever looks after the device says so.
    private var isHeld = false
    private var hasReportedFault = false
    private var hasReportedShortage = false
    /// Requests were left, for their disk is away. The frontend sees no answer any more: it asks the next backend, or a
    /// successor with the same ring does them again, when the disk may be back.
    private var isForsaken = false
    private let snapshot = Mutex(BackendQueueStatistics())
    private let failed = Mutex<[DiskFailure]>([])
    private let latencyRecord: BlockLatencyRecord
    /// How many failures `failed` has.
    private var failuresShown: UInt64 = 0
    private var watch = MemoryWatch()
    /// What goes wrong on purpose.
    private let faults: (book: FaultBook, form: SlotForm)?
    /// Whether something happened since the last turn that had to be finished. Most turns find nothing at all, and this
    /// tells them apart without a look into the model.
    private var isStirred = true

    private enum Tag {
        static let bell: UInt32 = 0
        static let pauseOver: UInt32 = 1
    }

    /// A frontend that sends nothing but nonsense is listened to once a millisecond (protocol-rules.md 18).
    private static let nonsensePauseMicroseconds: UInt64 = 1000

    /// Opens the disk for this queue and starts. On the reactor's thread.
    init(_ plan: QueuePlan, report: @escaping @Sendable (QueueReport) -> Void) throws(Errno) {
        reactor = plan.reactor
        rings = plan.rings
        self.report = report
        let layout = plan.abi.layout
        faults = plan.faults.map { ($0, .answers(layout)) }
        let ring: JournaledRing
        let isResumed: Bool
        var repeats = 0
        switch plan.start {
        case .fresh(let memory):
            ring = JournaledRing(attaching: rings.region, plan.abi, journal: memory)
            isResumed = false
        case .resumed(let memory, let recovery):
            do throws(RingError) {
                ring = try JournaledRing(resuming: rings.region, plan.abi, journal: memory, recovery)
            } catch { throw Errno(EPROTO) }
            isResumed = true
            repeats = recovery.unanswered.count
        }
        let slots = Int(ring.geometry.slotCount)
        let proxy = OwnerProxy()
        let disk = try plan.device.openQueue(on: reactor, bus: plan.dma.bus, depth: slots, owner: proxy)
        if repeats > 0 { disk.expectRepeats(repeats) }
        let transport = XenBlockTransport(
            XenBlockPlan(
                ring: ring, validator: plan.validator, writesDurably: plan.device.geometry.writesDurably,
                persistentGrants: plan.persistentGrants, frontend: plan.frontend, hypervisor: plan.hypervisor, dma: plan.dma))
        let stride = transport.stride
        model = BlockModel(transport, disk: disk, capacity: slots, segments: stride, time: plan.reactor.time)
        latencyRecord = model.latencies
        owner = proxy
        doorbell = Doorbell(plan.channel, bellTag: Tag.bell, pauseTag: Tag.pauseOver)
        proxy.queue = self
        slot = reactor.attach(self)
        // The predecessor may have died between showing a response and ringing for it.
        if isResumed { doorbell.channel.notify() }
        faults?.book.watch(self) { [weak self, reactor] in if let queue = self { reactor.run { queue.lookAtFaults() } } }
        lookAtFaults()
    }

    /// Does wrong from now on what is set, and no more what is not.
    private func lookAtFaults() {
        guard let faults, slot != nil, !model.isClosing else { return }
        isStirred = true
        let isHonest = faults.book.isEmpty
        if let faulty = model.disk as? FaultyQueue {
            if isHonest {
                model.disk = faulty.real
                faulty.retire()
            }
        } else if !isHonest {
            model.disk = FaultyQueue(model.disk, faults.book, on: reactor, owner: owner)
        }
        let spoiler = model.transport.ring.tamper ?? RingSpoiler(faults.book, faults.form, time: reactor.time)
        model.transport.ring.tamper = isHonest ? nil : spoiler
    }

    /// Stops taking requests; what is in work ends first, then everything is given back and `closed` is reported. What
    /// waits for a disk that is away is not waited for.
    func close() {
        isStirred = true
        model.close()
        let disk = model.disk
        disk.endWaiting()
        closeIfIdle()
    }

    /// What a kill leaves, for simulations: nothing more is done, answered or given back.
    func forsake() {
        isForsaken = true
        faults?.book.unwatch(self)
        owner.queue = nil
    }

    /// Takes nothing from the frontend, or goes on.
    func hold(_ isHeld: Bool) {
        self.isHeld = isHeld
        isStirred = true
    }

    /// Asks the disk to end what it has in work; the frontend gets errors.
    func cancel() {
        isStirred = true
        model.disk.cancelAll()
    }

    /// Tells `taps` of every request from now on; with none, costs nothing any more.
    func trace(_ taps: [TraceTap], queue: Int) {
        let slots = Int(model.transport.ring.geometry.slotCount)
        model.transport.trace = taps.isEmpty ? nil : BlockQueueTrace(taps, queue: queue, slots: slots, time: reactor.time)
    }

    /// Notifies the frontend, as if there were an answer.
    func notify() { doorbell.channel.notify() }

    /// Where the ring is now.
    var state: XenRingState {
        XenRingState(
            slots: Int(model.transport.ring.geometry.slotCount), words: RingWords(rings.region),
            nextRequest: model.transport.ring.nextRequestIndex.rawValue,
            nextResponse: model.transport.ring.nextResponseIndex.rawValue, inWork: model.inWork,
            fault: model.fault.map { "\($0)" }, isHeld: isHeld)
    }

    /// The ring as a person looks at it.
    func report(_ name: String) -> RingReport {
        let now = reactor.time.nanoseconds
        let requests = model.inWorkNow.map { request in
            [RingReport.Field("id", model.transport.requests[request.slot].id)] + request.fields(now)
        }
        let doorbells: [RingReport.Field] = [
            .init("doorbells-sent", model.transport.notificationsSent), .init("doorbells-taken", doorbell.rings),
            .init("doorbells-for-nothing", doorbell.spurious),
        ]
        return state.report(name, doorbells: doorbells, requests: requests)
    }

    /// How long requests took so far; from any thread.
    var latencies: BlockLatencies { latencyRecord.value }

    /// The disk has another size now.
    func resize(sectors: UInt64) { model.transport.validator.resize(to: sectors) }

    /// Counters as of the last turn; from any thread, also while the queue closes (attacks.md A11).
    var statistics: BackendQueueStatistics { snapshot.withLock { $0 } }

    /// What the disk failed, as of the last turn; from any thread.
    var failures: [DiskFailure] { failed.withLock { $0 } }

    // MARK: The reactor's calls

    func poll() -> Bool {
        var worked = false
        if !isHeld && !doorbell.isPaused && model.hasWork() {
            isStirred = true
            let (taken, rejected, mustNotify) = model.takeRequests()
            if mustNotify { doorbell.channel.notify() }
            worked = taken > 0
            if taken > 0 { doorbell.foundWork() }
            if taken > 0 && rejected == taken, let slot { doorbell.pause(Self.nonsensePauseMicroseconds, reactor, slot) }
        }
        guard isStirred else { return false }
        if finishTurn() { worked = true }
        // What memory has to tell may have to wait for its second.
        isStirred = model.transport.trouble != nil || model.transport.dma.iommu != nil
        return worked
    }

    func prepareToSleep() -> Bool {
        if isHeld { return false }
        if model.transport.isStalled { return !doorbell.isPaused && model.hasFreed }
        guard model.isOpen, !doorbell.isPaused, let slot else { return false }
        if model.transport.ring.armAndRecheck() { return true }
        model.transport.dma.settle()
        doorbell.arm(reactor, slot)
        return false
    }

    func completed(tag: UInt32, result: Int32) {
        if doorbell.completed(tag: tag) { model.wake() }
    }

    func deviceCompleted(tag: UInt32, result: DeviceResult) {
        isStirred = true
        if model.isClosing, result == .failed(.canceled) { isForsaken = true }
        model.ended(tag: tag, result)
    }

    // MARK: Turns

    /// Shows answers, reports faults, closes when due; true if something was answered.
    private func finishTurn() -> Bool {
        let before = model.transport.ring.counters
        if !isForsaken, model.publish() { doorbell.channel.notify() }
        let worked = model.transport.ring.counters != before
        if let fault = model.fault, !hasReportedFault {
            hasReportedFault = true
            report(.broken("\(fault)"))
        }
        if let shortage = model.transport.grants.shortage, !hasReportedShortage {
            hasReportedShortage = true
            report(.shortage(shortage))
        }
        let withdrawn = model.takeWithdrawn()
        if withdrawn.contains(.flush) { report(.lostFlush) }
        if withdrawn.contains(.discard) { report(.lostDiscard) }
        if worked { updateSnapshot() }
        // Each turn comes by here, and nearly none has anything to tell.
        if model.transport.trouble != nil || model.transport.dma.iommu != nil {
            for line in watch.lines(&model.transport.trouble, model.transport.dma.iommu, reactor.time) { report(.trouble(line)) }
        }
        if model.isClosing { closeIfIdle() }
        return worked
    }

    private func updateSnapshot() {
        let statistics = BackendQueueStatistics(model.statistics, model.transport, doorbell)
        snapshot.withLock { $0 = statistics }
        guard model.statistics.failed != failuresShown else { return }
        failuresShown = model.statistics.failed
        let failures = model.failures
        failed.withLock { $0 = failures }
    }

    private func closeIfIdle() {
        guard model.inWork == 0, let slot else { return }
        if !isForsaken { _ = model.publish() }
        model.transport.grants.releaseEverything()
        do throws(DMAError) { try model.transport.dma.close() } catch { report(.trouble("\(error)")) }
        updateSnapshot()
        model.disk.close()
        owner.queue = nil
        faults?.book.unwatch(self)
        self.slot = nil
        reactor.detach(slot)
        doorbell.channel.close()
        rings.unmap()
        report(.closed)
    }
}

/// Stands between the disk and its queue, because each needs the other to be made first. The cycle ends when the queue
/// closes.
private final class OwnerProxy: BlockQueueOwner {
    var queue: BackendQueue?
    func deviceCompleted(tag: UInt32, result: DeviceResult) { queue?.deviceCompleted(tag: tag, result: result) }
}
