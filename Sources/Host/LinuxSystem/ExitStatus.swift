// How a process ended.

/// How a process ended.
public enum ExitStatus: Equatable, Sendable, CustomStringConvertible {
    /// By itself, with this status.
    case exited(Int32)
    /// By a signal of this number.
    case signalled(Int32)

    /// From `waitpid`'s word (the W… macros are not importable).
    init(waitStatus: Int32) {
        self = waitStatus & 0x7F == 0 ? .exited(waitStatus >> 8 & 0xFF) : .signalled(waitStatus & 0x7F)
    }

    /// The status that a shell would report.
    public var shellStatus: Int32 {
        switch self {
        case .exited(let status): status
        case .signalled(let number): 128 + number
        }
    }

    /// `exited with status 1`, `was killed by signal 9`.
    public var description: String {
        switch self {
        case .exited(let status): "exited with status \(status)"
        case .signalled(let number): "was killed by signal \(number)"
        }
    }
}
