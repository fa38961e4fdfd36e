// How long a reactor spins before it sleeps, learnt from what its waits turn out to be (as KVM learns how long to poll
// before it halts a processor): a spin that would have ended a wait saves two context switches, and an idle processor
// the way out of its halt; one that would not, or that keeps others from the processor, is worse than sleeping at once.

/// The window of the adaptive policy. Times are nanoseconds of a monotonic clock.
struct SpinWindow {
    /// How long to spin now, at most the policy's limit.
    private(set) var length: UInt64 = .max
    /// No growth before then: others want the processor.
    private var heldUntil: UInt64 = 0
    /// How long the next hold is.
    private var hold = Self.firstHold
    /// Offers of the processor that somebody took, and such that nobody took; the one in a row ends the other.
    private var taken = 0
    private var refused = 0

    /// The first step when the window opens again.
    static let firstStep: UInt64 = 2_000
    /// A wait is not worth spinning for if it was so much longer than the limit. What is seen is the wait and the way
    /// out of sleep, which alone takes longer than some limits: a closer bound would keep a window closed that should
    /// open.
    static let wayOut: UInt64 = 200_000
    /// A yield that takes longer has let somebody else run.
    static let yieldLimit: UInt64 = 3_000
    /// A yield that takes longer let somebody run who has more to do than a moment.
    static let longYield: UInt64 = 500_000
    /// So many offers taken in a row, and the processor is busy; so many refused, and it is idle at times.
    static let streak = 8
    /// How long the processor counts as busy: twice as long each time, as long as it is never seen idle between.
    static let firstHold: UInt64 = 2_000_000
    static let longestHold: UInt64 = 64_000_000

    /// Work came after `time` of spinning and sleeping.
    mutating func waited(_ time: UInt64, now: UInt64, limit: UInt64) {
        let current = min(length, limit)
        if time > limit + Self.wayOut {
            length = current / 2 < Self.firstStep ? 0 : current / 2
        } else if now >= heldUntil {
            length = min(limit, max(Self.firstStep, current &* 4))
        }
    }

    /// The processor was offered to others while spinning, which took `time`; true if somebody took it, and then this
    /// wait is better slept: after a yield a thread is not woken but waits for its turn. Where that happens again and
    /// again, or for long, no wait is spun for a while.
    mutating func yielded(_ time: UInt64, now: UInt64) -> Bool {
        guard time > Self.yieldLimit else {
            taken = 0
            refused += 1
            if refused >= Self.streak { hold = Self.firstHold }
            return false
        }
        refused = 0
        taken += 1
        if taken >= Self.streak || time > Self.longYield { close(now) }
        return true
    }

    private mutating func close(_ now: UInt64) {
        taken = 0
        length = 0
        heldUntil = now &+ hold
        hold = min(hold * 2, Self.longestHold)
    }
}
