// Why a reactor does not run.

import Glibc
import LinuxSystem

/// Thrown when a reactor starts; its `init` throws what the ring's set-up said.
public enum ReactorError: Error, Hashable, Sendable, CustomStringConvertible {
    /// No thread could be made.
    case noThread(reactor: String, Errno)
    /// The thread could not become the ring's submitter.
    case noRing(reactor: String, Errno)
    /// What `Reactor.init` threw.
    case notMade(Errno)

    /// One line; of a reactor that was made, with its name.
    public var description: String {
        switch self {
        case .noThread(let name, let error): "no thread for reactor \(name): \(error)"
        case .noRing(let name, let error): "the io_uring of reactor \(name) cannot be enabled: \(error)"
        case .notMade(let error):
            "io_uring: \(error)"
                + ([EPERM, ENOSYS].contains(error.rawValue) ? "; is it allowed here (kernel.io_uring_disabled, seccomp)?" : "")
        }
    }
}
