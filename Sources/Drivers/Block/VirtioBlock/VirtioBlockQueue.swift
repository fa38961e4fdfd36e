// A virtqueue on its reactor: wakes up, lets the model work, arms the ring, stops. Everything here runs on the
// reactor's thread.

import BlockDevices
import BlockModel
import DMA
import Interrupts
import LinuxSystem
import Reactor
import SharedMemory
import VhostUser
import VirtioInterrupts
import VirtioMemory
import VirtioRing

/// A ring of a disk that runs. On its reactor's thread.
protocol RunningBlockQueue: AnyObject, Sendable {
    /// Serves requests from now on, or leaves them.
    func setEnabled(_ isEnabled: Bool)
    /// Looks at the ring: somebody said that there is something.
    func kick()
    /// The driver signals by this from now on; nil: by nothing.
    func setKick(_ kick: Descriptor?)
    /// Answers are told by its interrupt from now on, wherever that leads, and by no message.
    func setCalled()
    /// Has the driver look at the ring. One that finds nothing there has lost nothing by that.
    func ring()
    /// Whom to tell that the ring makes no sense.
    func setError(_ error: Descriptor?)
    /// The front end's socket for messages of ours.
    func setChannel(_ channel: VhostBackendChannel)
    /// Where what is written is noted from now on; nil: nowhere.
    func setLogging(_ logging: VhostLogging?)
    /// The driver's memory; false: it cannot be had.
    func replaceMemory(_ map: GuestMap) -> Bool
    /// The disk has another size.
    func resize(to byteCount: UInt64)
    /// What it was asked.
    var statistics: BlockModelStatistics { get }
    /// What the driver's IO addresses are from now on.
    func translate(_ table: TranslationTable)
    /// Calls `then` when nothing in work was given any of these IO addresses.
    func whenUnused(_ range: ClosedRange<UInt64>, _ then: @escaping @Sendable () -> Void)
    /// Asks the disk to end what it has in work.
    func cancel()
    /// Takes nothing more, ends what is in work, and calls `then` with where to go on.
    /// - Parameter isPausing: whether this side will start it again, where nothing may be lost.
    func stop(isPausing: Bool, _ then: @escaping @Sendable (UInt32) -> Void)
}

/// What a queue is made of, beside its ring.
struct VirtioQueueSetup: Sendable {
    /// The ring's number.
    let number: Int
    let memory: GuestMap
    let disk: any BlockDevice
    let rules: VirtioBlockRules
    let identity: String
    let reactor: Reactor
    let channel: VhostBackendChannel?
    /// By what answers are told.
    let interrupt: InterruptLine?
    /// Gets a line when the ring breaks.
    let report: @Sendable (String) -> Void
}

/// One queue from its start to its stop.
///
/// Whoever makes one knows its ring's type, and what runs for each request is compiled for that type there. A generic
/// class's own conformances are not: they are one copy for all types, which looks up every size and function.
final class VirtioBlockQueue<Ring: DeviceRing & ~Copyable>: RunningBlockQueue, @unchecked Sendable {
    private let reactor: Reactor
    private let bus = MemoryBus()
    private var model: BlockModel<VirtioBlockTransport<Ring>>
    private let owner: QueueOwner
    private var inbound: InboundRow
    private let interrupt: InterruptLine?
    private var error: Descriptor?
    private var logSignal: Descriptor?
    private let report: @Sendable (String) -> Void
    private let number: Int
    private let leavesInflight: Bool
    private let keepsInflight: Bool
    private let translated: TranslatedMemory?
    /// The next chain waits for translations.
    private var isParked = false
    private var hasUnparkTimer = false
    /// Who waits until IO addresses are in use no more.
    private var unusing: [(range: ClosedRange<UInt64>, then: @Sendable () -> Void)] = []
    /// What is told by messages, through `channel`.
    private var messages: VhostBellMessages
    private var channel: VhostBackendChannel?
    /// Messages for which there was no room; they are tried again.
    private var owed: VhostBellMessages = []
    private var slot: ReactorSlot?
    private var isEnabled: Bool
    private var isPaused = false
    private var hasReported = false
    /// Requests were left, for their disk is away: nothing is shown any more, so that whoever serves the ring next
    /// finds them in flight and does them again.
    private var isForsaken = false
    /// Whether they may be left.
    private var isLeaving = false
    private var stopped: (@Sendable (UInt32) -> Void)?

    private enum Tag {
        static var pauseOver: UInt32 { 1 }
        static var tellAgain: UInt32 { 3 }
        static var unpark: UInt32 { 4 }
    }

    /// A driver that sends nothing but nonsense is listened to once a millisecond.
    private static var nonsensePauseMicroseconds: UInt64 { 1000 }
    /// How often one that lacks a translation is looked at.
    private static var lookMicroseconds: UInt64 { 1000 }
    /// How often a message is tried that a front end has no room for.
    private static var tellAgainMicroseconds: UInt64 { 1000 }

    /// Begins to serve a ring.
    /// - Parameter repeats: how many requests a predecessor has taken and not answered.
    /// - Throws: what the disk says when another queue cannot be had, or that the memory cannot.
    init(_ plan: VhostRingPlan, ring: consuming Ring, _ setup: VirtioQueueSetup, repeats: Int = 0) throws(Errno) {
        reactor = setup.reactor
        report = setup.report
        number = setup.number
        channel = setup.channel
        messages = plan.messages
        leavesInflight = plan.leavesInflight
        keepsInflight = plan.inflight != nil
        let time = setup.reactor.time
        translated = plan.translations.map { TranslatedMemory($0, in: setup.memory, now: { time.nanoseconds }) }
        inbound = InboundRow(.init(plan.kick, isByMessages: plan.isKickedByMessage))
        interrupt = setup.interrupt
        error = plan.error
        isEnabled = plan.isEnabled
        owner = QueueOwner()
        let entries = ring.size
        // The queue first: a real device says where on the bus the memory is.
        let queue = try setup.disk.openQueue(on: setup.reactor, bus: bus, depth: entries, owner: owner)
        if repeats > 0 { queue.expectRepeats(repeats) }
        guard let windows = GuestWindows(setup.memory, on: bus) else {
            queue.close()
            throw .noMemory
        }
        model = BlockModel(
            VirtioBlockTransport(
                ring: ring, rules: setup.rules, identity: setup.identity, memory: windows, bus: bus,
                translated: translated, chainMemory: plan.chainMemory?()),
            disk: queue,
            capacity: entries, segments: VirtioBlockOffer.mostSegments, time: time)
        setLogging(plan.logging)
        if let channel { tellNotices(by: channel) }
        owner.deliver = { self.deviceCompleted(tag: $0, result: $1) }
        slot = reactor.attach(
            QueueTurns(
                turn: { self.poll() }, rest: { self.prepareToSleep() }, end: { self.completed(tag: $0, result: $1) }))
    }

    var statistics: BlockModelStatistics { model.statistics }
    func setEnabled(_ isEnabled: Bool) { self.isEnabled = isEnabled }
    /// Being called wakes the reactor, whose next turn looks at every ring.
    func kick() {}
    /// The same.
    func setKick(_ kick: Descriptor?) { inbound.route(from: .init(kick), reactor, slot) }
    func setCalled() { messages.remove(.call) }
    func setError(_ error: Descriptor?) {
        self.error = error
        messages.remove(.error)
    }
    func setChannel(_ channel: VhostBackendChannel) {
        self.channel = channel
        tellNotices(by: channel)
    }
    private func tellNotices(by channel: VhostBackendChannel) {
        translated?.tell = { channel.say($0) }
    }
    func translate(_ table: TranslationTable) {
        translated?.replaceTable(table)
        isParked = false
    }
    func whenUnused(_ range: ClosedRange<UInt64>, _ then: @escaping @Sendable () -> Void) {
        unusing.append((range, then))
        tellUnused()
    }
    func setLogging(_ logging: VhostLogging?) {
        model.transport.log = logging?.log
        model.transport.ring.setLog(logging?.ring)
        logSignal = logging?.signal
        if let logSignal { interrupt?.tell(logSignal) }
    }
    func replaceMemory(_ map: GuestMap) -> Bool { model.transport.replaceMemory(map) }
    func cancel() { model.disk.cancelAll() }
    func resize(to byteCount: UInt64) { model.transport.rules.byteCount = byteCount }

    func stop(isPausing: Bool, _ then: @escaping @Sendable (UInt32) -> Void) {
        stopped = then
        model.close()
        // What waits for a disk that is away is left where the next one finds it; without such a place, in a guest that
        // moves elsewhere, it would be lost, and a definite error is better than no answer.
        isLeaving = isPausing ? keepsInflight : model.transport.log == nil || leavesInflight
        if !isPausing || keepsInflight { model.disk.endWaiting() }
        finishTurn()
    }

    // MARK: The reactor's calls

    func poll() -> Bool {
        var worked = false
        if isEnabled && !isPaused && !isParked && model.hasWork() {
            model.transport.ring.disarm()
            let (taken, rejected, mustNotify) = model.takeRequests()
            if mustNotify { ring() }
            worked = taken > 0
            if taken > 0 && rejected == taken { pause() }
            if model.transport.isParked { park() }
        }
        return finishTurn() || worked
    }

    func prepareToSleep() -> Bool {
        guard isEnabled, !isPaused, !isParked, model.isOpen, let slot else { return false }
        if model.transport.ring.armAndRecheck() { return true }
        inbound.arm(reactor, slot)
        return false
    }

    func completed(tag: UInt32, result: Int32) {
        if inbound.completed(tag) { return model.wake() }
        switch tag {
        case Tag.tellAgain:
            let again = owed
            owed = []
            tell(again)
        case Tag.unpark: (isParked, hasUnparkTimer) = (false, false)
        default: isPaused = false
        }
    }

    func deviceCompleted(tag: UInt32, result: DeviceResult) {
        if isLeaving, result == .failed(.canceled) { isForsaken = true }
        model.ended(tag: tag, result)
    }

    // MARK: Turns

    private func pause() {
        guard let slot else { return }
        isPaused = true
        reactor.after(microseconds: Self.nonsensePauseMicroseconds, slot, tag: Tag.pauseOver)
    }

    /// Leaves the ring alone until there is another table, or an answer is overdue.
    @inline(never)
    private func park() {
        guard let slot else { return }
        isParked = true
        guard let translated else { return reactor.after(microseconds: Self.lookMicroseconds, slot, tag: Tag.unpark) }
        // One that is set already ends no later, unless something is to be said that there was no room for.
        guard !hasUnparkTimer || !translated.hasToldAll else { return }
        hasUnparkTimer = true
        reactor.after(microseconds: translated.waitMicroseconds, slot, tag: Tag.unpark)
    }

    /// Tells those who wait for IO addresses that are in use no more.
    private func tellUnused() {
        let ended = unusing.filter { translated?.isLent($0.range) != true }
        unusing.removeAll { translated?.isLent($0.range) != true }
        for end in ended { end.then() }
    }

    func ring() {
        if messages.contains(.call) { tell(.call) } else { interrupt?.raise() }
    }

    /// Tells the front end by messages, sooner or later.
    private func tell(_ what: VhostBellMessages) {
        guard let channel, let slot else { return }
        var left = what.subtracting(owed)
        if left.contains(.call), channel.call(ring: number) { left.remove(.call) }
        if left.contains(.error), channel.error(ring: number) { left.remove(.error) }
        if left.isEmpty { return }
        if owed.isEmpty { reactor.after(microseconds: Self.tellAgainMicroseconds, slot, tag: Tag.tellAgain) }
        owed.formUnion(left)
    }

    /// Shows answers and stops when due; true if something was answered.
    @discardableResult
    private func finishTurn() -> Bool {
        let before = model.transport.ring.counters
        if !isForsaken, model.publish() { ring() }
        if let fault = model.fault, !hasReported {
            hasReported = true
            if messages.contains(.error) { tell(.error) } else if let error { interrupt?.tell(error) }
            report("\(fault)")
        }
        if !unusing.isEmpty { tellUnused() }
        let worked = model.transport.ring.counters != before
        if worked, let logSignal { interrupt?.tell(logSignal) }
        if model.isClosing { stopIfIdle() }
        return worked
    }

    private func stopIfIdle() {
        guard model.inWork == 0, let slot, let stopped else { return }
        self.slot = nil
        self.stopped = nil
        model.disk.close()
        owner.deliver = nil
        reactor.detach(slot)
        model.transport.detachMemory()
        translated?.tell = { _ in true }
        stopped(model.transport.ring.base)
    }
}

/// Stands between the disk and its queue, because each needs the other to be made first.
final class QueueOwner: BlockQueueOwner {
    /// Keeps the queue, until it has stopped.
    var deliver: ((UInt32, DeviceResult) -> Void)?
    func deviceCompleted(tag: UInt32, result: DeviceResult) { deliver?(tag, result) }
}

/// A queue as its reactor calls it.
private final class QueueTurns: ReactorClient {
    private let turn: () -> Bool
    private let rest: () -> Bool
    private let end: (UInt32, Int32) -> Void

    init(turn: @escaping () -> Bool, rest: @escaping () -> Bool, end: @escaping (UInt32, Int32) -> Void) {
        self.turn = turn
        self.rest = rest
        self.end = end
    }

    func poll() -> Bool { turn() }
    func prepareToSleep() -> Bool { rest() }
    func completed(tag: UInt32, result: Int32) { end(tag, result) }
}
