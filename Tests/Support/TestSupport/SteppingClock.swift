// A clock on which every look takes time: whoever gives somebody so long is seen to stop after so many looks.

import LinuxSystem
import Synchronization

/// Moves on by the same step with each reading.
public final class SteppingClock: TimeSource {
    private let now: Atomic<UInt64>
    private let step: UInt64

    /// - Parameter step: nanoseconds from one reading to the next.
    public init(step: UInt64) {
        self.step = step
        now = Atomic(3_600_000_000_000)
    }

    /// See `TimeSource.nanoseconds`.
    public var nanoseconds: UInt64 { now.wrappingAdd(step, ordering: .relaxed).newValue }
    /// As if it had been started when 1970 began.
    public var calendarNanoseconds: UInt64 { nanoseconds }
    /// Moves it on.
    public func sleep(nanoseconds: UInt64) { now.wrappingAdd(nanoseconds, ordering: .relaxed) }
    /// The kernel knows nothing of this clock.
    public func kernelDeadline(milliseconds: Int) -> UInt64 { SystemTime().kernelDeadline(milliseconds: milliseconds) }
}
