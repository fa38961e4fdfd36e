// Where time comes from. No module below the commands reads a clock or sleeps by itself: whoever starts it gives it a
// source, so that a test can give it one that it sets by hand. tools/checks/airborne.py holds the sources to that.

import Glibc

/// A clock, and sleeping by it.
///
/// Waits in the kernel that also end when something happens (`poll`, io_uring, a condition) last as long as the
/// kernel's own clock says; by this one they are only found to be over.
public protocol TimeSource: Sendable {
    /// Nanoseconds since some moment: never set back, never stepped.
    var nanoseconds: UInt64 { get }
    /// Nanoseconds since 1970: for dates, not for measuring.
    var calendarNanoseconds: UInt64 { get }
    /// Sleeps so long; a signal may end it early.
    func sleep(nanoseconds: UInt64)
    /// What the kernel's monotonic clock will show so many milliseconds from now: until then a thread waits that
    /// something may wake before.
    func kernelDeadline(milliseconds: Int) -> UInt64
}

extension TimeSource {
    /// Milliseconds since the same moment as `nanoseconds`.
    public var milliseconds: Int64 { Int64(clamping: nanoseconds / 1_000_000) }

    /// Sleeps so many milliseconds; a signal may end it early.
    public func sleep(milliseconds: Int64) { sleep(nanoseconds: UInt64(clamping: milliseconds) &* 1_000_000) }

    /// What `nanoseconds` will be so many milliseconds from now.
    public func deadline(milliseconds: Int) -> UInt64 { nanoseconds &+ UInt64(clamping: milliseconds) &* 1_000_000 }
}

/// The system's clocks.
public struct SystemTime: TimeSource {
    /// The system's clocks.
    public init() {}

    /// See `TimeSource.nanoseconds`.
    public var nanoseconds: UInt64 { Self.read(CLOCK_MONOTONIC) }
    /// See `TimeSource.calendarNanoseconds`.
    public var calendarNanoseconds: UInt64 { Self.read(CLOCK_REALTIME) }

    /// See `TimeSource.sleep`.
    public func sleep(nanoseconds: UInt64) {
        var time = timespec(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
        // SAFETY: the kernel reads the one structure, and fills in none.
        _ = unsafe nanosleep(&time, nil)
    }

    /// See `TimeSource.kernelDeadline`: this is the kernel's clock.
    public func kernelDeadline(milliseconds: Int) -> UInt64 { deadline(milliseconds: milliseconds) }

    private static func read(_ clock: clockid_t) -> UInt64 {
        var now = timespec()
        // SAFETY: the kernel fills in the one structure.
        _ = unsafe clock_gettime(clock, &now)
        return UInt64(now.tv_sec) &* 1_000_000_000 &+ UInt64(now.tv_nsec)
    }
}

extension TimeSource where Self == SystemTime {
    /// The system's clocks.
    public static var system: SystemTime { SystemTime() }
}
