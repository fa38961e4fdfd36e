// One vector: a count that only grows until it is taken, and a target that is told when it leaves zero. So interrupts
// coalesce, and none is lost.
//
// One word holds the count (bits 0 to 60; at a thousand million a second that lasts 73 years) and three flags. Whoever
// adds sees in the same step whether it was zero and whether the vector was masked, and whoever takes or unmasks sees
// in the same step what was there: there is no moment in which an addition falls between two looks. The lock guards the
// target only, and is taken only to deliver.
//
// An eventfd counts by itself, so a vector that leads to one and has nothing pending needs no count of its own: its
// gate is open, and whoever raises writes, past the word and the lock. Whoever changes anything holds the lock and
// shuts the gate, which returns when nobody is inside: that takes as long as a write that does not block.

import LinuxSystem
import Synchronization

final class InterruptVector: Sendable {
    /// Set: nothing is delivered, and counting goes on.
    private static let masked: UInt64 = 1 << 63
    /// Set: the device has gone; nothing counts any more.
    private static let closed: UInt64 = 1 << 62
    /// Set: the target could not take the count; the next interrupt tries again.
    private static let stuck: UInt64 = 1 << 61
    private static let countMask: UInt64 = stuck - 1
    /// Of a saved count: far from where the flags begin.
    private static let mostAtOnce: UInt64 = 1 << 32

    private let word = Atomic<UInt64>(0)
    /// To the eventfd, which `target` keeps open.
    private let gate = BellGate()
    private let target = ContendedLock<InterruptTarget>(.none)
    private let trust: InterruptTrust

    init(_ trust: InterruptTrust) { self.trust = trust }

    /// One more; false if the device has gone.
    func raise() -> Bool {
        // The gate releases what the device has done before it interrupts, as the kernel does when it writes.
        if let outcome = gate.pass(), isTold(outcome) { return true }
        return count(1)
    }

    /// Whether it is told; who holds those that write is not forgotten. A switch: another module's `==` is a call by
    /// way of a table.
    private func isTold(_ outcome: BellOutcome) -> Bool {
        switch outcome {
        case .told: return true
        case .full: return false
        case .blocked:
            trust.wasBlocked()
            return false
        }
    }

    /// So many more in the word; false if the device has gone.
    private func count(_ more: UInt64) -> Bool {
        // Releases what the device has done before it interrupts; `take` acquires it.
        let old = word.wrappingAdd(more, ordering: .acquiringAndReleasing).oldValue
        if old & Self.closed != 0 { return false }
        if old & Self.masked != 0 { return true }
        // Not from zero: somebody else has told the target, which has not taken yet and will find this one too.
        if old & Self.countMask == 0 || old & Self.stuck != 0 { target.withLock { deliver($0) } }
        return true
    }

    /// Writes an eventfd that is no vector's.
    func tell(_ descriptor: Descriptor) { if !trust.isLost { _ = isTold(descriptor.tell()) } }

    /// So many that another vector had counted.
    func add(_ pending: UInt64) { if pending > 0 { _ = count(min(pending, Self.mostAtOnce)) } }

    /// All since the last time, and starts again from zero.
    func take() -> UInt64 { takeWord() & Self.countMask }

    /// Takes the count; the word as it was, with its flags.
    private func takeWord() -> UInt64 { word.bitwiseAnd(~Self.countMask, ordering: .acquiringAndReleasing).oldValue }

    /// How many there are to take.
    var pending: UInt64 { word.load(ordering: .acquiring) & Self.countMask }
    var isMasked: Bool { word.load(ordering: .acquiring) & Self.masked != 0 }

    /// From its return on nothing is delivered.
    func mask() {
        word.bitwiseOr(Self.masked, ordering: .acquiringAndReleasing)
        // A delivery that had begun before has ended when the lock is had and nobody is inside the gate.
        target.withLock { _ in gate.shut() }
    }

    /// What came meanwhile is delivered now.
    func unmask() {
        let old = word.bitwiseAnd(~Self.masked, ordering: .acquiringAndReleasing).oldValue
        if old & Self.masked != 0 { target.withLock { deliver($0) } }
    }

    /// What has not been taken yet goes to the new target.
    func route(to new: InterruptTarget) {
        target.withLock { target in
            gate.shut()
            target = new
            deliver(new)
        }
    }

    /// From its return on nothing counts and nothing is delivered; the target is let go of.
    func close() {
        word.bitwiseOr(Self.closed, ordering: .acquiringAndReleasing)
        target.withLock { target in
            gate.shut()
            target = .none
        }
    }
}

// MARK: Under the target's lock

extension InterruptVector {
    /// Tells the target what there is to tell, if there is.
    private func deliver(_ target: InterruptTarget) {
        let now = word.load(ordering: .acquiring)
        if now & (Self.masked | Self.closed) != 0 { return }
        let isPending = now & Self.countMask != 0
        switch target {
        case .none: return
        case .eventChannel(let channel): if isPending { channel.notify() }
        case .peer(let channel):
            // Taken before it rings: what is raised from here on leaves zero once more, and rings once more.
            if take() != 0 { channel.notify() }
        case .message(let message, let port): if isPending { port.send(message) }
        case .eventDescriptor(let descriptor): move(to: descriptor)
        }
    }

    /// Moves the count into the kernel's, and opens the gate if the kernel took it.
    private func move(to descriptor: Descriptor) {
        let old = takeWord()
        let count = old & Self.countMask
        if trust.isLost {
            keep(count)
        } else if count == 0 || isTold(descriptor.tell(count)) {
            if old & Self.stuck != 0 { word.bitwiseAnd(~Self.stuck, ordering: .relaxed) }
            // Whoever masks or closes after the look at the flags waits for the lock, and shuts it again.
            gate.open(to: descriptor)
        } else {
            keep(count)
        }
    }

    /// The kernel's counter is full, or nobody is there: the count stays here, and the next interrupt tries again.
    private func keep(_ count: UInt64) {
        gate.turnAway()
        word.bitwiseOr(Self.stuck, ordering: .relaxed)
        word.wrappingAdd(count, ordering: .acquiringAndReleasing)
    }
}
