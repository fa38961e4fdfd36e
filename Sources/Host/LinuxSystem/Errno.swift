// A system call's error, as a value. Not an error of ours: the layers above wrap it with what they were doing.

import CLinux
import Glibc

/// The kernel's error number (`errno(3)`).
public struct Errno: Error, Hashable, Sendable, CustomStringConvertible {
    /// The number, positive, as errno has it.
    public let rawValue: Int32

    /// Wraps `rawValue`, a positive error number.
    @inlinable public init(_ rawValue: Int32) { self.rawValue = rawValue }

    /// The calling thread's errno.
    public static var current: Errno { Errno(errno) }

    /// The C library's words for it, such as `No space left on device`.
    public var description: String {
        // SAFETY: the text is copied before this thread's next call may change it.
        guard let text = unsafe strerror(rawValue) else { return "errno \(rawValue)" }
        return unsafe String(cString: text)
    }

    /// What the C library calls it, such as `ENOSPC`; the number itself where that has no name.
    public var name: String {
        // SAFETY: the text is a constant of the C library's.
        guard let text = unsafe causeway_error_name(rawValue) else { return "\(rawValue)" }
        return unsafe String(cString: text)
    }
}

/// Calls `body` again as long as it fails with EINTR; a negative result is thrown as errno.
@discardableResult
public func retryingInterrupts<N: FixedWidthInteger & SignedInteger>(_ body: () -> N) throws(Errno) -> N {
    while true {
        let result = body()
        if result >= 0 { return result }
        if errno != EINTR { throw Errno.current }
    }
}

/// Calls `body` again, a little later, as long as it fails for want of room or memory (`Errno.passes`) and half a
/// minute has not passed: what another would call an outage is a pause then.
package func outlastingShortage<R>(_ time: any TimeSource, _ body: () throws(Errno) -> R) throws(Errno) -> R {
    let end = time.deadline(milliseconds: 30_000)
    var pause: Int64 = 1
    while true {
        do throws(Errno) { return try body() } catch {
            guard error.passes, time.nanoseconds < end else { throw error }
            time.sleep(milliseconds: pause)
            pause = min(pause * 2, 50)
        }
    }
}
