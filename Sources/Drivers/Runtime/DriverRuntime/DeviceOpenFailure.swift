// What whoever opens devices for a backend says when it cannot.

import LinuxSystem

/// Why a device could not be opened: one line with its name and the reason.
public struct DeviceOpenFailure: Error, Sendable, CustomStringConvertible {
    /// The error number for the error node.
    public let number: Int32
    /// One line.
    public let description: String
    /// Whether it is only not there yet, so that trying again soon may help.
    public var mayPass = false
    /// Wraps a line.
    public init(number: Int32, _ description: String) {
        self.number = number
        self.description = description
    }
    /// Wraps an error of the system's and a line.
    public init(_ reason: Errno, _ description: String) { self.init(number: reason.rawValue, description) }
}
