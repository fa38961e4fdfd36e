// How long a reactor spins before it sleeps, learnt from what its waits turn out to be (as KVM learns how long to poll before it halts a
// processor): a spin that would have ended a wait saves two context switches; one that would not, or that keeps the thread it waits for from
// running, is worse than sleeping at once.

/// The window of the adaptive policy. Times are nanoseconds of a monotonic clock.
struct SpinWindow {
    /// How long to spin now, at most the policy's limit.
    private(set) var length: UInt64 = .max
    /// No growth before then: others want the processor.
    private var heldUntil: UInt64 = 0

    /// The first step when the window opens again.
    static let firstStep: UInt64 = 2_000
    /// A yield that takes longer has let somebody else run who has more to do than a moment.
    static let yieldLimit: UInt64 = 50_000
    /// A wait is not worth spinning for if it was this many times longer than the limit. What is seen is the wait and the way out of sleep, which
    /// alone takes longer than most limits: a closer bound would keep a window closed that should open.
    static let longWait: UInt64 = 10
    /// How long the processor counts as wanted after that.
    static let hold: UInt64 = 2_000_000

    /// Work came after `time` of spinning and sleeping.
    mutating func waited(_ time: UInt64, now: UInt64, limit: UInt64) {
        let current = min(length, limit)
        if time / Self.longWait > limit {
            length = current / 2 < Self.firstStep ? 0 : current / 2
        } else if now >= heldUntil {
            length = min(limit, max(Self.firstStep, current &* 4))
        }
    }

    /// The processor was offered to others while spinning, which took `time`; true if somebody took it. Spinning then only delays whom it waits
    /// for, and after a yield a thread is not woken but waits for its turn.
    mutating func yielded(_ time: UInt64, now: UInt64) -> Bool {
        guard time > Self.yieldLimit else { return false }
        length = 0
        heldUntil = now &+ Self.hold
        return true
    }
}
