// One event channel on a reactor: armed before sleeping, and later than at once if it keeps ringing for nothing
// (attacks.md C5).

import Hypervisor
import Reactor

/// A peer's doorbell as a reactor's client waits for it. A value of its owner's; two tags are its own.
public struct Doorbell: ~Copyable {
    /// Where it rings.
    public let channel: any EventChannel
    private let bellTag: UInt32
    private let pauseTag: UInt32
    private var isArmed = false
    private var hasRung = false
    private var hasFoundWork = true
    /// Not listened to, because it rang for nothing or for nonsense; what it stands for is not to be looked at until
    /// that is over.
    public private(set) var isPaused = false
    private var throttle = LateEOI()
    /// Rings taken, and those that brought nothing.
    public private(set) var rings: UInt64 = 0
    /// Rings in a row that brought nothing.
    public private(set) var spurious: UInt64 = 0

    /// Completions under `bellTag` and `pauseTag` belong to this doorbell.
    public init(_ channel: any EventChannel, bellTag: UInt32, pauseTag: UInt32) {
        self.channel = channel
        self.bellTag = bellTag
        self.pauseTag = pauseTag
    }

    /// There was something to do.
    public mutating func foundWork() { hasFoundWork = true }

    /// Takes a completion that is the doorbell's; false if it is not.
    public mutating func completed(tag: UInt32) -> Bool {
        if tag == pauseTag {
            isPaused = false
            // What rang meanwhile is taken now: the work that it announces is found in this turn, and would else be
            // missing when the ring is noticed in the next, which would make every ring of a frontend that was once
            // paused look spurious.
            take()
            return true
        }
        guard tag == bellTag else { return false }
        isArmed = false
        take()
        hasRung = true
        return true
    }

    private mutating func take() {
        if channel.acknowledge() {
            rings &+= 1
            hasRung = true
        }
        channel.unmask()
    }

    /// Looks away for a while from a peer that sends nothing of use, whatever it rings meanwhile.
    public mutating func pause(_ microseconds: UInt64, _ reactor: Reactor, _ slot: ReactorSlot) {
        if isPaused { return }
        isPaused = true
        reactor.after(microseconds: microseconds, slot, tag: pauseTag)
    }

    /// Waits for the next ring. Call when there is nothing more to do, before sleeping.
    public mutating func arm(_ reactor: Reactor, _ slot: ReactorSlot) {
        if isArmed || isPaused { return }
        if hasRung {
            hasRung = false
            // Work that came before the ring was seen counts for it, too.
            if !hasFoundWork { spurious &+= 1 }
            let delay = throttle.handled(foundWork: hasFoundWork)
            if delay > 0 {
                hasFoundWork = false
                isPaused = true
                reactor.after(microseconds: delay, slot, tag: pauseTag)
                return
            }
        }
        isArmed = true
        hasFoundWork = false
        reactor.whenReadable(channel.descriptor, slot, tag: bellTag)
    }
}
