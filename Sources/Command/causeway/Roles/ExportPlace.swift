// Where an exported device and its front ends meet: at a path, or at a socket that whoever started this process opened.

import CommandSupport
import Glibc
import LinuxSystem

enum ExportPlace {
    /// A socket that is made there, or that front ends have made.
    case path(String)
    /// One that is open and listens.
    case listener(Descriptor)
    /// One whose other end is a front end's.
    case frontend(Descriptor)

    /// What `--fd` names.
    init(inherited number: Int32) throws(Failure) {
        let socket: StreamSocket.Inherited
        do throws(Errno) { socket = try StreamSocket.inherited(number) } catch {
            let reason = error == Errno(EBADF) ? "no such descriptor is open" : "\(error)"
            throw .usage("--fd: \(number): \(reason)")
        }
        switch socket {
        case .listening(let descriptor): self = .listener(descriptor)
        case .connected(let descriptor): self = .frontend(descriptor)
        case .foreign: throw .usage("--fd: \(number): no Unix stream socket that listens or is connected")
        }
    }

    private static let descriptors = "/proc/self/fd/"

    /// Whether a path names a socket that somebody else has opened, and may remove.
    static func isInherited(_ path: String) -> Bool { path.hasPrefix(descriptors) }

    /// As messages name it, and as this process and what it becomes may find it.
    var path: String {
        switch self {
        case .path(let path): path
        case .listener(let socket), .frontend(let socket): "\(Self.descriptors)\(socket.rawValue)"
        }
    }
}
