// The queues of an interface that one reactor moves, and with the first of such groups the control ring. Queue n of an
// interface with g groups is in group n % g. What is each group's own is touched on its thread alone: the others post
// jobs to it.

import DeviceFaults
import DeviceTrace
import DriverRuntime
import Hypervisor
import LinuxSystem
import NetworkProtocol
import Reactor
import SharedMemory

/// One group. On its reactor's thread, but for `run` and the queues' statistics.
final class InterfaceQueueGroup: ReactorClient, @unchecked Sendable {
    /// The control ring with its doorbell.
    struct Control: ~Copyable {
        var server: ControlServer
        var bell: Doorbell
        let ring: any ContiguousGrants

        static let bellTag: UInt32 = 1 << 16

        init(_ server: consuming ControlServer, _ channel: any EventChannel, _ ring: any ContiguousGrants) {
            self.server = server
            self.ring = ring
            bell = Doorbell(channel, bellTag: Self.bellTag, pauseTag: Self.bellTag + 1)
        }

        /// Rings for answers that the frontend can see, once for all.
        mutating func notify() { if server.takeNotification() { bell.channel.notify() } }
    }

    /// Everything that a group is made of.
    struct Parts: ~Copyable {
        let number: Int
        /// Groups that the interface has.
        let count: Int
        let reactor: Reactor
        let state: InterfaceState
        let shared: SharedInterfaceState
        let queues: [InterfaceQueue]
        /// Nil: another group's, or there is none.
        let control: Control?
        let report: @Sendable (InterfaceReport) -> Void
    }

    /// Its number, and how many there are.
    let number: Int
    let count: Int
    let queues: [InterfaceQueue]
    /// Frames on their way here from other groups.
    let budget = SteeringBudget()
    private let reactor: Reactor
    private let state: InterfaceState
    private let shared: SharedInterfaceState
    private var control: Control?
    private let report: @Sendable (InterfaceReport) -> Void
    private var peers = GroupPeers([])
    private var slot: ReactorSlot?
    private var isBroken = false
    private var isClosed = false

    init(_ parts: consuming Parts) {
        number = parts.number
        count = parts.count
        reactor = parts.reactor
        state = parts.state
        shared = parts.shared
        queues = parts.queues
        report = parts.report
        control = parts.control
    }

    /// Begins to move frames.
    /// - Parameters:
    ///   - groups: all of the interface's, by number.
    ///   - isAdopted: whether the frontend has to be rung, whose rings were a predecessor's.
    func start(among groups: [InterfaceQueueGroup], isAdopted: Bool) {
        let own = number
        state.steer = { [weak self] in self?.steer($0, $1, $2, to: $3) ?? false }
        if groups.count > 1 {
            peers = GroupPeers(groups)
            state.tellOthers = { [weak self] others in self?.peers.tell(others) { $0.takeMulticast() } }
            control?.server.remote = RemoteQueues(
                spread: { [weak self] scaling in
                    guard let self else { return 0 }
                    peers.tell((0..<count).filter { $0 != own }) { $0.take(scaling, for: own) }
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
    func run(_ job: @escaping @Sendable (InterfaceQueueGroup) -> Void) { reactor.post { if !self.isClosed { job(self) } } }

    // MARK: Turns

    func poll() -> Bool {
        if isBroken || slot == nil { return false }
        var worked = false
        for queue in queues where queue.work() { worked = true }
        if let count = control?.server.work(), count > 0 {
            worked = true
            control?.bell.foundWork()
            control?.notify()
            // Pages may have been mapped, and no frame come.
            for queue in queues { queue.updateSnapshot() }
        }
        peers.flush()
        // A turn that only lost frames has moved none, and has the more to tell.
        for queue in queues where worked || queue.hasTrouble { for line in queue.takeTrouble() { report(.trouble(line)) } }
        if let fault = queues.lazy.compactMap(\.fault).first ?? control?.server.fault { stop(for: fault) }
        return worked
    }

    /// The frontend broke a ring: nothing more is taken from any, here and on the other threads.
    private func stop(for fault: String) {
        isBroken = true
        queues.first?.transmit.trace?.note("the frontend broke its ring: \(fault)")
        guard shared.breakDown() else { return }
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
        if control?.bell.isPaused == false, control?.server.isWaiting == false {
            if control?.server.ring.armAndRecheck() == true { hasWork = true }
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
    private func steer(_ frame: GuestReceive.Frame, _ region: SharedRegion, _ offset: Int, to target: Int) -> Bool {
        guard target < state.queueCount else { return false }
        if target % count != number { return peers.send(frame, region, offset, to: target, of: target % count) }
        return queues[target / count].receive.accept(frame, from: region, offset)
    }

    /// Takes frames that another group's devices gave.
    func take(_ frames: [SteeredFrame]) {
        for steered in frames { queues[steered.target / count].take(steered.frame, steered.bytes, isBroken: isBroken) }
        budget.give(frames)
    }

    /// Looks at what the frontend wants now.
    func takeMulticast() { state.take(shared.news(for: number)) }

    private func take(_ scaling: ReceiveSideScaling, for asking: Int) {
        state.take(scaling)
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
        control?.server.acknowledged()
        control?.notify()
    }

    private func acknowledged(_ status: ControlStatus, _ queue: Int, _ entries: [GrantMappingEntry]) {
        control?.server.acknowledged(status, queue: queue, entries)
        control?.notify()
    }

    // MARK: From the control thread

    /// Tells `taps` of every packet from now on.
    func trace(_ taps: [TraceTap]) { for queue in queues { queue.trace(taps) } }

    /// Looks which faults are set now.
    func spoil(by book: FaultBook) { for queue in queues { queue.spoil(by: book, reactor) } }

    /// Whoever waits for credit looks again.
    func rateChanged() { for queue in queues { queue.transmit.rateChanged() } }

    /// Takes nothing from the frontend and gives it nothing, or goes on.
    func hold(_ isHeld: Bool) { for queue in queues { queue.isHeld = isHeld } }

    /// Does something on the group's thread, and waits for it; nil: the group is closed.
    func ask<R: Sendable>(_ body: @escaping @Sendable (InterfaceQueueGroup) -> R) -> R? {
        reactor.run { self.isClosed ? nil : body(self) }
    }

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
        if shared.closeGroup() { report(.closed) }
    }

    /// The interface could not be made: what was mapped for it is unmapped. Its rings and ports are its maker's.
    func giveUp() { for queue in queues { queue.mappings.removeAll() } }
}
