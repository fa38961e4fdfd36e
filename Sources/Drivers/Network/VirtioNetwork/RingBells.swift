// A ring's descriptors: whom to tell of answers, and what is waited for. On the queue's thread.

import Interrupts
import LinuxSystem
import Reactor
import VhostUser
import VirtioInterrupts

/// The bells of one ring.
struct RingBells {
    /// What says that the driver has something.
    var inbound: InboundRow
    /// By what answers are told.
    var interrupt: InterruptLine?
    /// Whom to tell that the ring makes no sense.
    var error: Descriptor?

    init(_ plan: VhostRingPlan) {
        inbound = InboundRow(.init(plan.kick))
        error = plan.error
    }

    func ring() { interrupt?.raise() }

    /// Says that the ring makes no sense.
    func tellError() { if let error { interrupt?.tell(error) } }
}
