// What whoever opens devices for a backend says when it cannot.

/// Why a device could not be opened: one line with its name and the reason.
public struct DeviceOpenFailure: Error, Sendable, CustomStringConvertible {
    /// The error number for the error node.
    public let number: Int32
    /// One line.
    public let description: String
    /// Wraps a line.
    public init(number: Int32, _ description: String) {
        self.number = number
        self.description = description
    }
}
