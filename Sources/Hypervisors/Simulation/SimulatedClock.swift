// A simulation's time: it stands still until somebody moves it or sleeps by it.

import LinuxSystem
import Synchronization

/// The clock of everything in one simulation. A sleep is over at once, and the clock shows its end.
public final class SimulatedClock: TimeSource {
    private let now: Mutex<UInt64>

    /// A clock that shows an hour, so that it can be told from one that was never set.
    public init() { now = Mutex(3_600_000_000_000) }

    /// See `TimeSource.nanoseconds`.
    public var nanoseconds: UInt64 { now.withLock { $0 } }
    /// As if it had been started when 1970 began.
    public var calendarNanoseconds: UInt64 { nanoseconds }
    /// See `TimeSource.sleep`.
    public func sleep(nanoseconds: UInt64) { advance(nanoseconds: nanoseconds) }
    /// Nothing in a simulation waits in the kernel; what tries to is late at once.
    public func kernelDeadline(milliseconds: Int) -> UInt64 { 0 }
    /// Moves it on.
    public func advance(nanoseconds: UInt64) { now.withLock { $0 &+= nanoseconds } }
}
