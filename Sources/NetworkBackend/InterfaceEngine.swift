// An interface on its reactor: its queues and its control ring, which share one thread so that a change of settings is never half seen
// by a queue.

import DriverSupport
import FrameTrace
import Hypervisor
import LinuxSystem
import Reactor

/// What an interface tells the control thread.
public enum InterfaceReport: Sendable {
    /// The frontend broke a ring; nothing more is taken from it.
    case broken(String)
    /// Something went wrong with memory: a line for the log.
    case trouble(String)
    /// Everything that was mapped is unmapped; the connection is no more.
    case closed
    /// The other end of its wire may have come or gone.
    case carrier
}

/// One connection of one frontend. On the reactor's thread, but for `statistics`.
final class InterfaceEngine: ReactorClient, @unchecked Sendable {
    private let reactor: Reactor
    let state: InterfaceState
    let queues: [InterfaceQueue]
    /// Slots that a predecessor had taken and not answered.
    let lostSlots: Int
    private var control: ControlCore?
    private var controlBell: Doorbell?
    private let controlRing: (any ContiguousGrants)?
    private let report: @Sendable (InterfaceReport) -> Void
    private var slot: ReactorSlot?
    private var isBroken = false

    private static let controlTag: UInt32 = 1 << 16

    init(
        reactor: Reactor, state: InterfaceState, queues: [InterfaceQueue], control: consuming ControlCore?,
        controlChannel: (any EventChannel)?, controlRing: (any ContiguousGrants)?,
        lostSlots: Int = 0, report: @escaping @Sendable (InterfaceReport) -> Void
    ) {
        self.reactor = reactor
        self.state = state
        self.queues = queues
        self.lostSlots = lostSlots
        self.control = control
        if let controlChannel {
            controlBell = Doorbell(controlChannel, bellTag: Self.controlTag, pauseTag: Self.controlTag + 1)
        } else {
            controlBell = nil
        }
        self.controlRing = controlRing
        self.report = report
        state.handOver = { [weak self] frame, region, offset, target in
            guard let self, target < self.queues.count else { return false }
            return self.queues[target].receive.accept(frame, from: region, offset)
        }
        slot = reactor.attach(self)
    }

    var statistics: [NetworkQueueStatistics] { queues.map(\.statistics) }

    /// Tells `taps` of every packet from now on, soon; from any thread.
    func trace(_ taps: [TraceTap]) {
        reactor.post { for queue in self.queues { queue.trace(taps) } }
    }

    func poll() -> Bool {
        if isBroken || slot == nil { return false }
        var worked = false
        for queue in queues where queue.work() { worked = true }
        if let count = control?.work(), count > 0 {
            worked = true
            controlBell?.foundWork()
            if control?.takeNotification() == true { controlBell?.channel.notify() }
        }
        // A turn that only lost frames has moved none, and has the more to tell.
        for queue in queues where worked || queue.hasTrouble { for line in queue.takeTrouble() { report(.trouble(line)) } }
        if let fault = queues.lazy.compactMap(\.fault).first ?? control?.fault {
            isBroken = true
            queues.first?.transmit.trace?.note("the frontend broke its ring: \(fault)")
            report(.broken(fault))
        }
        return worked
    }

    func prepareToSpin() {
        guard let slot, !isBroken else { return }
        for queue in queues { queue.awaitDevice(reactor, slot) }
    }

    func prepareToSleep() -> Bool {
        guard let slot, !isBroken else { return false }
        var hasWork = false
        for queue in queues where queue.prepareToSleep(reactor, slot) { hasWork = true }
        if controlBell?.isPaused == false {
            if control?.ring.armAndRecheck() == true { hasWork = true }
            controlBell?.arm(reactor, slot)
        }
        return hasWork
    }

    func completed(tag: UInt32, result: Int32) {
        guard slot != nil else { return }
        if tag >= Self.controlTag {
            _ = controlBell?.completed(tag: tag)
        } else if Int(tag / 8) < queues.count {
            queues[Int(tag / 8)].completed(tag)
        }
    }

    /// Takes settings that the toolstack or the frontend changed; from any thread.
    func change(_ change: @escaping @Sendable (InterfaceEngine) -> Void) {
        reactor.post { if self.slot != nil { change(self) } }
    }

    /// Gives everything back and says so.
    func close() {
        guard let slot else { return }
        self.slot = nil
        reactor.detach(slot)
        for queue in queues { if let leak = queue.close() { report(.trouble(leak)) } }
        // The next frontend begins with a carrier.
        state.stalledQueues = 0
        controlBell?.channel.close()
        controlRing?.unmap()
        report(.closed)
    }
}
