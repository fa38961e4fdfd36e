// A system call's error, as a value. Not an error of ours: the layers above wrap it with what they were doing.

import Glibc

/// The kernel's error number (`errno(3)`).
public struct Errno: Error, Hashable, Sendable, CustomStringConvertible {
    /// The number, positive, as errno has it.
    public let rawValue: Int32

    /// Wraps `rawValue`, a positive error number.
    public init(_ rawValue: Int32) { self.rawValue = rawValue }

    /// The calling thread's errno.
    public static var current: Errno { Errno(errno) }

    /// The C library's words for it, such as `No space left on device`.
    public var description: String {
        guard let text = unsafe strerror(rawValue) else { return "errno \(rawValue)" }
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
