// A ring of a driver with an IOMMU that waits for translations. On the queue's thread.

import Reactor
import VhostUser
import VirtioRing

/// What a ring knows of IO addresses, and whether its next chain waits for some.
struct RingTranslations {
    /// nil: the driver has no IOMMU.
    let memory: TranslatedMemory?
    /// The next chain waits.
    private(set) var isParked = false
    private var hasTimer = false

    init(_ plan: VhostRingPlan, in map: GuestMap, on reactor: Reactor) {
        let time = reactor.time
        memory = plan.translations.map { TranslatedMemory($0, in: map, now: { time.nanoseconds }) }
    }

    /// By which way the front end is asked.
    func tell(by channel: VhostBackendChannel?) {
        memory?.tell = channel.map { channel in { channel.say($0) } } ?? { _ in true }
    }

    /// Leaves the ring alone until there is another table, or an answer is overdue.
    mutating func park(_ reactor: Reactor, _ slot: ReactorSlot, tag: UInt32) {
        guard let memory else { return }
        isParked = true
        // One that is set already ends no later, unless something is to be said that there was no room for.
        guard !hasTimer || !memory.hasToldAll else { return }
        hasTimer = true
        reactor.after(microseconds: memory.waitMicroseconds, slot, tag: tag)
    }

    /// It is time to look again.
    mutating func timeout() { (isParked, hasTimer) = (false, false) }

    /// Timers of another slot are no more.
    mutating func forget() { (isParked, hasTimer) = (false, false) }

    /// There is another table; whether what was taken lies in what was taken back.
    mutating func replace(_ table: TranslationTable, _ takenBack: ClosedRange<UInt64>?) -> Bool {
        memory?.replaceTable(table)
        isParked = false
        guard let takenBack, let memory else { return false }
        return memory.isLent(takenBack)
    }
}
