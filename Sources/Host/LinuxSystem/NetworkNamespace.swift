// Network namespaces with names, as `ip netns` has them, without running it.

import CLinux
import Glibc

package enum NetworkNamespace {
    private static let directory = "/run/netns"

    private static func path(_ name: String) -> String { name.contains("/") ? name : "\(directory)/\(name)" }

    /// Moves the calling thread into the namespace `name`; threads that it starts from now on begin there.
    package static func enter(_ name: String) throws(NamespaceError) {
        let file: Descriptor
        do throws(Errno) { file = try Descriptor.open(path(name), O_RDONLY) } catch { throw .notFound(error) }
        do throws(Errno) { try retryingInterrupts { causeway_enter_network_namespace(file.rawValue) } } catch {
            throw .cannotEnter(error)
        }
    }

    /// Makes a namespace and moves the calling thread into it. It has no name, and ends with the last process in it.
    package static func makeUnnamed() throws(Errno) { try retryingInterrupts { causeway_new_network_namespace() } }

    /// Makes a namespace, moves the calling thread into it and names it.
    package static func make(_ name: String) throws(Errno) {
        FileSystem.makeDirectory(directory, mode: 0o755)
        try makeUnnamed()
        // SAFETY: the path is only read.
        try retryingInterrupts { unsafe causeway_name_network_namespace(path(name)) }
    }

    /// Takes the name back; the namespace ends with its last process.
    package static func remove(_ name: String) {
        // SAFETY: the path is only read.
        _ = unsafe causeway_unmount(path(name))
        FileSystem.remove(path(name))
    }

    /// Whether there is one of this name.
    package static func exists(_ name: String) -> Bool { FileSystem.exists(path(name)) }
}

/// Why a namespace was not entered.
package enum NamespaceError: Error, Equatable, Sendable, CustomStringConvertible {
    /// There is none of this name, or it may not be looked at.
    case notFound(Errno)
    /// It is there.
    case cannotEnter(Errno)

    /// The system's reason.
    package var reason: Errno {
        switch self {
        case .notFound(let error), .cannotEnter(let error): error
        }
    }

    package var description: String {
        switch self {
        case .notFound(let error): "\(error)"
        case .cannotEnter(let error): "cannot enter it: \(error)"
        }
    }
}
