// A ring's descriptors: whom to tell of answers, and what is waited for. On the queue's thread.

import Interrupts
import LinuxSystem
import Reactor
import VhostUser

/// The bells of one ring.
struct RingBells {
    /// Readable when the driver has something; nil: nobody says so.
    let kick: Descriptor?
    /// By what answers are told.
    var interrupt: InterruptLine?
    /// Whom to tell that the ring makes no sense.
    var error: Descriptor?
    private var isArmed = false

    /// What its completions are called.
    enum Tag {
        static let kick: UInt32 = 0
        static let look: UInt32 = 1
        /// Tags from here on are whoever's has the bells.
        static let others: UInt32 = 2
    }

    /// How often a ring without a kick is looked at by a thread that sleeps.
    private static let lookMicroseconds: UInt64 = 1000

    init(_ plan: VhostRingPlan) {
        kick = plan.kick
        error = plan.error
    }

    func ring() { interrupt?.raise() }

    /// Says that the ring makes no sense.
    func tellError() { if let error { interrupt?.tell(error) } }

    /// Waits for the driver.
    mutating func arm(_ reactor: Reactor, _ slot: ReactorSlot) {
        guard !isArmed else { return }
        isArmed = true
        if let kick {
            reactor.whenReadable(kick, slot, tag: Tag.kick)
        } else {
            reactor.after(microseconds: Self.lookMicroseconds, slot, tag: Tag.look)
        }
    }

    /// Whether that was its own.
    mutating func completed(_ tag: UInt32) -> Bool {
        guard tag < Tag.others else { return false }
        isArmed = false
        if tag == Tag.kick { kick?.takeCount() }
        return true
    }

    /// What was waited for is waited for no more.
    mutating func forget() { isArmed = false }
}
