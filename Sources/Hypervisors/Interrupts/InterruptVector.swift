// One vector: a count that only grows until it is taken, and a target that is told when it leaves zero. So interrupts
// coalesce, and none is lost.
//
// One word holds the count (bits 0 to 60; at a thousand million a second that lasts 73 years) and three flags. Whoever
// adds sees in the same step whether it was zero and whether the vector was masked, and whoever takes or unmasks sees
// in the same step what was there: there is no moment in which an addition falls between two looks. The lock guards the
// target only, and is taken only to deliver.

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

    private let word = Atomic<UInt64>(0)
    private let target = ContendedLock<InterruptTarget>(.none)

    /// One more; false if the device has gone.
    func raise() -> Bool {
        // Releases what the device has done before it interrupts; `take` acquires it.
        let old = word.wrappingAdd(1, ordering: .acquiringAndReleasing).oldValue
        if old & Self.closed != 0 { return false }
        if old & Self.masked != 0 { return true }
        // Not from zero: somebody else has told the target, which has not taken yet and will find this one too.
        if old & Self.countMask == 0 || old & Self.stuck != 0 { target.withLock { deliver($0) } }
        return true
    }

    /// All since the last time, and starts again from zero.
    func take() -> UInt64 {
        word.bitwiseAnd(~Self.countMask, ordering: .acquiringAndReleasing).oldValue & Self.countMask
    }

    /// How many there are to take.
    var pending: UInt64 { word.load(ordering: .acquiring) & Self.countMask }
    var isMasked: Bool { word.load(ordering: .acquiring) & Self.masked != 0 }

    /// From its return on nothing is delivered.
    func mask() {
        word.bitwiseOr(Self.masked, ordering: .acquiringAndReleasing)
        // A delivery that had begun before has ended when the lock is had.
        target.withLock { _ in }
    }

    /// What came meanwhile is delivered now.
    func unmask() {
        let old = word.bitwiseAnd(~Self.masked, ordering: .acquiringAndReleasing).oldValue
        if old & Self.masked != 0 && old & Self.countMask != 0 { target.withLock { deliver($0) } }
    }

    /// What has not been taken yet goes to the new target.
    func route(to new: InterruptTarget) {
        target.withLock { target in
            target = new
            if word.load(ordering: .acquiring) & Self.countMask != 0 { deliver(new) }
        }
    }

    /// From its return on nothing counts and nothing is delivered; the target is let go of.
    func close() {
        word.bitwiseOr(Self.closed, ordering: .acquiringAndReleasing)
        target.withLock { $0 = .none }
    }

    /// Under the target's lock.
    private func deliver(_ target: InterruptTarget) {
        let now = word.load(ordering: .acquiring)
        if now & (Self.masked | Self.closed) != 0 { return }
        switch target {
        case .none: return
        case .eventChannel(let channel): channel.notify()
        case .message(let message, let port): port.send(message)
        case .eventDescriptor(let descriptor): move(to: descriptor)
        }
    }

    /// Moves the count into the kernel's.
    private func move(to descriptor: Descriptor) {
        let count = take()
        if count == 0 { return }
        if descriptor.addCount(count) {
            word.bitwiseAnd(~Self.stuck, ordering: .relaxed)
        } else {
            // The kernel's counter is full, or nobody is there: the count stays here, and the next interrupt tries
            // again.
            word.bitwiseOr(Self.stuck, ordering: .relaxed)
            word.wrappingAdd(count, ordering: .acquiringAndReleasing)
        }
    }
}
