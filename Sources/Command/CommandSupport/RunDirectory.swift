// A host's run directory.

import FoundationEssentials
import LinuxSystem
import Loopback
import XenStore

/// A host's directory and the sockets in it.
package struct RunDirectory: Sendable, CustomStringConvertible {
    package let path: String

    package init(_ path: String) throws(Failure) {
        guard !path.isEmpty else { throw .usage("--run-dir: an empty name is no directory's") }
        // Other processes and URIs are given it, wherever they are.
        let absolute = path.hasPrefix("/") ? path : "\(FileManager.default.currentDirectoryPath)/\(path)"
        self.path = absolute.count > 1 && absolute.hasSuffix("/") ? String(absolute.dropLast()) : absolute
        // sun_path holds 108 bytes with its NUL; the longest name here is hypervisor.sock.
        guard self.path.utf8.count <= 107 - "/hypervisor.sock".utf8.count else {
            throw .usage("--run-dir: \(path): too long for a socket's path (at most 91 bytes)")
        }
    }

    package var hypervisorSocket: String { path + "/hypervisor.sock" }
    package var storeSocket: String { path + "/xenstored.sock" }
    package var description: String { path }

    /// Whether a Xen is below, where a backend has no host of ours.
    package static var isOnXen: Bool { FileSystem.exists("/dev/xen/xenbus") }

    /// A privileged connection to the store.
    package func connectStore() throws(Failure) -> StoreClient {
        let socket: Descriptor
        do throws(Errno) { socket = try StreamSocket.connect(path: storeSocket) } catch {
            throw Failure("\(storeSocket): \(LoopbackHost.silence(error))")
        }
        do throws(StoreError) { return try StoreClient(descriptor: socket, time: .system) } catch {
            throw Failure("\(storeSocket): \(error)")
        }
    }
}
