// Looking at Unix sockets from outside: is somebody there?

import Glibc
import LinuxSystem

enum UnixSocket {
    /// Whether `path` is a socket.
    static func exists(at path: String) -> Bool {
        var status = stat()
        return unsafe lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
    }

    /// Removes `path` if it is there.
    static func remove(_ path: String) { _ = unsafe unlink(path) }

    /// Whether a server listens on `path`, as it bound it. Looks at the kernel's table and connects to nobody: nbdkit would log
    /// each visitor who goes away.
    static func isListening(at path: String) -> Bool {
        guard let table = ProcessFile.read("/proc/net/unix") else { return accepts(at: path) }
        return table.split(separator: "\n").contains { line in
            // Num RefCount Protocol Flags Type St Inode Path; __SO_ACCEPTCON is bit 16.
            let fields = line.split(separator: " ", maxSplits: 7)
            guard fields.count == 8, fields[7] == path, let flags = UInt32(fields[3], radix: 16) else { return false }
            return flags & 1 << 16 != 0
        }
    }

    /// Whether a server accepts on `path` right now.
    static func accepts(at path: String) -> Bool { connected(to: path) != nil }

    /// A connection to a server on `path`, if there is one.
    static func connected(to path: String) -> Descriptor? {
        let raw = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard raw >= 0 else { return nil }
        let descriptor = Descriptor(owning: raw)
        guard var address = address(path) else { return nil }
        let isConnected = unsafe withUnsafePointer(to: &address) { pointer in
            // SAFETY: every socket address begins as a sockaddr does.
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                unsafe connect(descriptor.rawValue, generic, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
            }
        }
        return isConnected ? descriptor : nil
    }

    /// `path` as a socket's address; nil if it is too long.
    static func address(_ path: String) -> sockaddr_un? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        let fits = unsafe withUnsafeMutableBytes(of: &address.sun_path) { field in
            guard bytes.count < field.count else { return false }
            unsafe field.copyBytes(from: bytes)
            return true
        }
        return fits ? address : nil
    }
}
