// Network namespaces with names, as `ip netns` has them, without running it.

import CLinux
import FoundationEssentials
import Glibc
import LinuxSystem

enum NetworkNamespace {
    private static let directory = "/run/netns"

    static func path(_ name: String) -> String { name.contains("/") ? name : "\(directory)/\(name)" }

    /// Moves the calling thread, which must be the only one, into the namespace.
    static func enter(_ name: String) throws(Failure) {
        let file: Descriptor
        do { file = try Descriptor.open(path(name), O_RDONLY) } catch { throw Failure("--netns: \(name): \(error)") }
        guard causeway_enter_network_namespace(file.rawValue) == 0 else {
            throw Failure("--netns: \(name): cannot enter it: \(systemMessage(errno))")
        }
    }

    /// Makes a namespace, moves the calling thread into it and names it.
    static func make(_ name: String) throws(Failure) {
        _ = unsafe mkdir(directory, 0o755)
        guard causeway_new_network_namespace() == 0, unsafe causeway_name_network_namespace(path(name)) == 0 else {
            throw Failure("namespace \(name): \(systemMessage(errno))")
        }
    }

    /// Takes the name back; the namespace ends with its last process.
    static func remove(_ name: String) {
        _ = unsafe causeway_unmount(path(name))
        _ = unsafe unlink(path(name))
    }

    static func exists(_ name: String) -> Bool { unsafe access(path(name), F_OK) == 0 }
}
