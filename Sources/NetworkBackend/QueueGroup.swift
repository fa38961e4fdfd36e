// The queues of an interface that one reactor moves, and with the first of such groups the control ring. Queue n of an interface with g groups is in
// group n % g. What is each group's own is touched on its thread alone: the others post jobs to it.

import DriverSupport
import FrameTrace
import Hypervisor
import LinuxSystem
import Reactor
import SharedMemory
import XenWire

/// One group. On its reactor's thread, but for `run` and the queues' statistics.
final class QueueGroup: ReactorClient, @unchecked Sendable {
    /// The control ring with its doorbell.
    struct Control: ~Copyable {
        var core: ControlCore
        var bell: Doorbell
        let ring: any ContiguousGrants

        static let bellTag: UInt32 = 1 << 16

        init(_ core: consuming ControlCore, _ channel: any EventChannel, _ ring: any ContiguousGrants) {
            self.core = core
            self.ring = ring
            bell = Doorbell(channel, bellTag: Self.bellTag, pauseTag: Self.bellTag + 1)
        }

        /// Rings for answers that the frontend can see, once for all.
        mutating func notify() { if core.takeNotification() { bell.channel.notify() } }
    }

    /// Its number, and how many there are.
    let number: Int
    let count: Int
    let queues: [InterfaceQueue]
    /// Frames on their way here from other groups.
    let budget = HandOverBudget()
    private let reactor: Reactor
    private let state: InterfaceState
    private let commons: InterfaceCommons
    private var control: Control?
    private let report: @Sendable (InterfaceReport) -> Void
    private var peers = GroupPeers([])
    private var slot: ReactorSlot?
    private var isBroken = false
    private var isClosed = false

    init(
        _ number: Int, of count: Int, reactor: Reactor, state: InterfaceState, commons: InterfaceCommons, queues: [InterfaceQueue],
        control: consuming Control?, report: @escaping @Sendable (InterfaceReport) -> Void
    ) {
        self.number = number
        self.count = count
        self.reactor = reactor
        self.state = state
        self.commons = commons
        self.queues = queues
        self.control = control
        self.report = report
    }

    /// Begins to move frames.
    /// - Parameters:
    ///   - groups: all of the interface's, by number.
    ///   - isAdopted: whether the frontend has to be rung, whose rings were a predecessor's.
    func start(among groups: [QueueGroup], isAdopted: Bool) {
        let own = number
        state.handOver = { [weak self] in self?.handOver($0, $1, $2, to: $3) ?? false }
        if groups.count > 1 {
            peers = GroupPeers(groups)
            state.tellOthers = { [weak self] others in self?.peers.tell(others) { $0.takeMulticast() } }
            control?.core.reach = ControlReach(
                spread: { [weak self] spreading in
                    guard let self else { return 0 }
                    peers.tell((0..<count).filter { $0 != own }) { $0.take(spreading, for: own) }
                    return count - 1
                },
                change: { [weak self] queue, change in
                    guard let self else { return }
                    peers.tell([queue % count]) { $0.apply(change, to: queue, for: own) }
                })
        }
        if isAdopted {
            for queue in queues { queue.announceSuccession() }
            control?.bell.channel.notify()
        }
        slot = reactor.attach(self)
    }

    /// Runs `job` on the group's thread, soon, unless it is closed by then; from any thread.
    func run(_ job: @escaping @Sendable (QueueGroup) -> Void) { reactor.post { if !self.isClosed { job(self) } } }

    // MARK: Turns

    func poll() -> Bool {
        if isBroken || slot == nil { return false }
        var worked = false
        for queue in queues where queue.work() { worked = true }
        if let count = control?.core.work(), count > 0 {
            worked = true
            control?.bell.foundWork()
            control?.notify()
            // Pages may have been mapped, and no frame come.
            for queue in queues { queue.updateSnapshot() }
        }
        peers.flush()
        // A turn that only lost frames has moved none, and has the more to tell.
        for queue in queues where worked || queue.hasTrouble { for line in queue.takeTrouble() { report(.trouble(line)) } }
        if let fault = queues.lazy.compactMap(\.fault).first ?? control?.core.fault { stop(for: fault) }
        return worked
    }

    /// The frontend broke a ring: nothing more is taken from any, here and on the other threads.
    private func stop(for fault: String) {
        isBroken = true
        queues.first?.transmit.trace?.note("the frontend broke its ring: \(fault)")
        guard commons.breakDown() else { return }
        report(.broken(fault))
        if count > 1 {
            let own = number
            peers.tell((0..<count).filter { $0 != own }) { $0.isBroken = true }
        }
    }

    func prepareToSpin() {
        guard let slot, !isBroken else { return }
        for queue in queues { queue.awaitDevice(reactor, slot) }
    }

    func prepareToSleep() -> Bool {
        guard let slot, !isBroken else { return false }
        var hasWork = false
        for queue in queues where queue.prepareToSleep(reactor, slot) { hasWork = true }
        // While other threads are at a request no more are taken; their word is a job, which wakes this thread.
        if control?.bell.isPaused == false, control?.core.isWaiting == false {
            if control?.core.ring.armAndRecheck() == true { hasWork = true }
            control?.bell.arm(reactor, slot)
        }
        return hasWork
    }

    func completed(tag: UInt32, result: Int32) {
        guard slot != nil else { return }
        if tag >= Control.bellTag {
            _ = control?.bell.completed(tag: tag)
        } else if Int(tag / 8) / count < queues.count {
            queues[Int(tag / 8) / count].completed(tag)
        }
    }

    // MARK: From one group to another

    /// Gives a frame to another queue of the interface; false if that cannot take it.
    private func handOver(_ frame: ReceiveCore.Frame, _ region: SharedRegion, _ offset: Int, to target: Int) -> Bool {
        guard target < state.queueCount else { return false }
        if target % count != number { return peers.send(frame, region, offset, to: target, of: target % count) }
        return queues[target / count].receive.accept(frame, from: region, offset)
    }

    /// Takes frames that another group's devices gave.
    func take(_ frames: [HandedFrame]) {
        for handed in frames { queues[handed.target / count].take(handed.frame, handed.bytes, isBroken: isBroken) }
        budget.give(frames)
    }

    /// Looks at what the frontend wants now.
    func takeMulticast() { state.take(commons.news(for: number)) }

    private func take(_ spreading: HashSpreading, for asking: Int) {
        state.take(spreading)
        peers.tell([asking]) { $0.acknowledged() }
    }

    private func apply(_ change: MappingChange, to queue: Int, for asking: Int) {
        let mappings = queues[queue / count].mappings
        let status = mappings.apply(change)
        queues[queue / count].updateSnapshot()
        let entries = change.wantsEntries ? mappings.entries : []
        peers.tell([asking]) { $0.acknowledged(status, queue, entries) }
    }

    private func acknowledged() {
        control?.core.acknowledged()
        control?.notify()
    }

    private func acknowledged(_ status: ControlStatus, _ queue: Int, _ entries: [GrantMappingEntry]) {
        control?.core.acknowledged(status, queue: queue, entries)
        control?.notify()
    }

    // MARK: From the control thread

    /// Tells `taps` of every packet from now on.
    func trace(_ taps: [TraceTap]) { for queue in queues { queue.trace(taps) } }

    /// From now on each queue may send so much.
    func setRate(_ rate: CreditRate?) { for queue in queues { queue.transmit.setRate(rate) } }

    /// Gives everything back, and says so if it is the last.
    func close() {
        if isClosed { return }
        isClosed = true
        if let slot { reactor.detach(slot) }
        slot = nil
        for queue in queues { if let leak = queue.close() { report(.trouble(leak)) } }
        // The next frontend begins with a carrier.
        state.stalledQueues = 0
        control?.bell.channel.close()
        control?.ring.unmap()
        if commons.closeGroup() { report(.closed) }
    }

    /// The interface could not be made: what was mapped for it is unmapped. Its rings and ports are its maker's.
    func giveUp() { for queue in queues { queue.mappings.removeAll() } }
}
