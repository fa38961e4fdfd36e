// Waiting for what another thread or process does.

import Glibc
import HypervisorRules
import InProcess
import LinuxSystem
import Testing

/// What a test waited for in vain.
public struct TimedOut: Error, CustomStringConvertible {
    /// In a few words.
    public let description: String
    /// It did not come in time.
    public init(_ description: String) { self.description = description }
}

/// Waits until `condition` holds; false if it does not within `milliseconds`.
public func eventually(_ milliseconds: Int64 = 3000, _ condition: () throws -> Bool) rethrows -> Bool {
    let deadline = ContinuousClock.now + .milliseconds(milliseconds)
    while try !condition() {
        if ContinuousClock.now > deadline { return false }
        usleep(2000)
    }
    return true
}

/// Milliseconds of the system's monotonic clock.
public func monotonicMilliseconds() -> Int64 { SystemTime().milliseconds }

/// Nanoseconds of the system's monotonic clock.
public func monotonicNanoseconds() -> UInt64 { SystemTime().nanoseconds }

/// Sleeps so many milliseconds; a signal may end it early.
public func sleepMilliseconds(_ count: Int64) { SystemTime().sleep(milliseconds: count) }
