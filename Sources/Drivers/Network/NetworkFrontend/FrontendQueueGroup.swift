// The queues of an interface that one reactor moves. On the reactor's thread, but for `statistics`.

import DeviceFaults
import LinuxSystem
import Reactor

/// One group: nothing of it is another group's.
final class FrontendQueueGroup: ReactorClient, @unchecked Sendable {
    private let reactor: Reactor
    private let queues: [FrontendQueue]
    private let broke: @Sendable (String) -> Void
    private var slot: ReactorSlot?
    /// A look for lost rings is due some time.
    private var willRecheck = false

    /// What the timer's completion is called: no queue's.
    private static let recheckTag = UInt32.max
    /// How long a ring may have been lost before that is looked for.
    private static let recheckMicroseconds: UInt64 = 1_000_000

    init(_ reactor: Reactor, _ queues: [FrontendQueue], broke: @escaping @Sendable (String) -> Void) {
        self.reactor = reactor
        self.queues = queues
        self.broke = broke
        slot = reactor.attach(self)
    }

    /// Of each queue, in order; from any thread.
    var statistics: [FrontendQueueStatistics] { queues.map(\.statistics) }

    /// Uses these rings from now on, one for each queue.
    func connect(_ links: [QueueLink]) {
        for (queue, link) in zip(queues, links) { queue.connect(link) }
    }

    /// Looks which faults are set now.
    func spoil(by book: FaultBook) { for queue in queues { queue.spoil(by: book, reactor.time) } }

    /// Lets go of the rings; frames on them are lost, as on a cable that is pulled.
    func disconnect() {
        for queue in queues { queue.disconnect() }
    }

    /// Ends everything.
    func close() {
        guard let slot else { return }
        self.slot = nil
        disconnect()
        reactor.detach(slot)
        for queue in queues { queue.close() }
    }

    func poll() -> Bool {
        if slot == nil { return false }
        var worked = false
        for queue in queues {
            do throws(FrontendFault) { if try queue.work() { worked = true } } catch {
                // Of no more use, and nothing of it may be touched; the control thread closes the device.
                disconnect()
                broke(error.description)
                return false
            }
        }
        return worked
    }

    func prepareToSpin() {
        guard let slot else { return }
        for queue in queues { queue.prepareToSpin(reactor, slot) }
    }

    func prepareToSleep() -> Bool {
        guard let slot else { return false }
        var hasWork = false
        for queue in queues where queue.prepareToSleep(reactor, slot) { hasWork = true }
        if !hasWork, !willRecheck {
            willRecheck = true
            reactor.after(microseconds: Self.recheckMicroseconds, slot, tag: Self.recheckTag)
        }
        return hasWork
    }

    func completed(tag: UInt32, result: Int32) {
        if tag == Self.recheckTag {
            willRecheck = false
            // What was answered without a ring that arrived is found by the turn that follows.
            for queue in queues { queue.ringAgain() }
        } else if Int(tag / 8) < queues.count {
            queues[Int(tag / 8)].completed(tag)
        }
    }
}
