import LinuxSystem
import Synchronization

/// A clock that stands still until a test moves it on, or somebody sleeps by it: a sleep is over at once, and the clock
/// shows its end.
public final class ManualClock: TimeSource {
    private struct State {
        var nanoseconds: UInt64
        var sleeps: [UInt64] = []
    }
    private let state: Mutex<State>

    /// A clock that shows so many milliseconds: by itself an hour, so that it can be told from one that was never set.
    public init(milliseconds: UInt64 = 3_600_000) { state = Mutex(State(nanoseconds: milliseconds * 1_000_000)) }

    /// See `TimeSource.nanoseconds`.
    public var nanoseconds: UInt64 { state.withLock { $0.nanoseconds } }
    /// As if it had been started when 1970 began.
    public var calendarNanoseconds: UInt64 { nanoseconds }
    /// How long each sleep by this clock was to be, in milliseconds, the oldest first.
    public var sleeps: [UInt64] { state.withLock { $0.sleeps }.map { $0 / 1_000_000 } }

    /// Moves it on by so many nanoseconds, and notes that somebody slept.
    public func sleep(nanoseconds: UInt64) {
        state.withLock { state in
            state.nanoseconds += nanoseconds
            state.sleeps.append(nanoseconds)
        }
    }

    /// The kernel knows nothing of this clock: who waits for something to happen waits as long as by the system's.
    public func kernelDeadline(milliseconds: Int) -> UInt64 { SystemTime().kernelDeadline(milliseconds: milliseconds) }

    /// Moves it on.
    public func advance(milliseconds: UInt64) { advance(nanoseconds: milliseconds * 1_000_000) }

    /// Moves it on.
    public func advance(nanoseconds: UInt64) { state.withLock { $0.nanoseconds += nanoseconds } }
}
