// Which requests are timed: every one as long as they are few. The clock costs as much as a tenth of a small request,
// so of a busy queue's one in two is, one in four, up to one in 1024, and counts for those between.

import LinuxSystem

/// Chooses the requests of one queue that are timed. One thread's.
public struct LatencySampler: Sendable {
    /// A moment, and for how many requests the one that began then stands.
    public struct Stamp: Sendable, BitwiseCopyable {
        /// By the queue's clock. Of a request that is not timed: when the last one before it was that is, which on a
        /// busy queue is a few microseconds, and elsewhere nothing, too early.
        public var nanoseconds: UInt64
        /// 0: it is not timed.
        public var weight: UInt32

        @inlinable
        init(nanoseconds: UInt64, weight: UInt32) {
            self.nanoseconds = nanoseconds
            self.weight = weight
        }
    }

    private let time: any TimeSource
    /// Requests that are still passed over.
    @usableFromInline var left: UInt32 = 0
    /// Requests that are passed over between two that are timed.
    private var gap: UInt32 = 0
    /// One in so many is timed, more or less.
    private var stride: UInt32 = 1
    /// When the last one was.
    @usableFromInline var last: UInt64 = 0
    /// What makes the gaps uneven: an even one would meet only the reads of a peer that reads and writes by turns.
    private var state: UInt32 = 0x9E37_79B9

    /// A busier queue times fewer, in nanoseconds between two.
    private static var least: UInt64 { 100_000 }
    private static var most: UInt32 { 1024 }

    /// Times by `time`.
    public init(_ time: any TimeSource) { self.time = time }

    /// A request begins.
    @inlinable
    public mutating func begin() -> Stamp {
        if left > 0 {
            left &-= 1
            return Stamp(nanoseconds: last, weight: 0)
        }
        return choose()
    }

    @usableFromInline
    mutating func choose() -> Stamp {
        let weight = gap &+ 1
        let now = time.nanoseconds
        let passed = now &- last
        last = now
        if passed < Self.least, stride < Self.most { stride &*= 2 } else if passed > Self.least &* 4, stride > 1 { stride /= 2 }
        // From nothing to twice the mean: xorshift's upper bits, by Marsaglia.
        state ^= state << 13
        state ^= state >> 17
        state ^= state << 5
        gap = stride == 1 ? 0 : UInt32(truncatingIfNeeded: (UInt64(state) &* UInt64(2 &* stride &- 1)) >> 32)
        left = gap
        return Stamp(nanoseconds: now, weight: weight)
    }

    /// By the queue's clock.
    public var now: UInt64 { time.nanoseconds }

    /// The queue's thread was asleep, and something has woken it: the next request is timed.
    public mutating func wake() {
        gap &-= left
        left = 0
    }
}
