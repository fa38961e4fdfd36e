// A Unix socket's address, as bind, connect and sendto take it, and the calls that take one.

import Glibc

/// The address of a Unix socket.
@safe struct SocketAddress {
    private var address = sockaddr_un()
    private let byteCount: socklen_t

    /// The socket file at `path`, which must leave room for a NUL and hold none.
    /// - Throws: ENAMETOOLONG for a path that can be no socket's.
    init(path: String) throws(Errno) {
        let bytes = Array(path.utf8)
        guard !bytes.isEmpty, !bytes.contains(0), bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw .fileNameTooLong
        }
        byteCount = socklen_t(MemoryLayout<sockaddr_un>.size)
        fill(bytes)
    }

    /// What sd_notify(3) calls an address: a path, or with `@` before it a name without a file.
    init(notifyName name: String) throws(Errno) {
        var bytes = Array(name.utf8)
        guard let first = bytes.first, bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { throw .fileNameTooLong }
        if first == UInt8(ascii: "@") { bytes[0] = 0 }
        // Each byte of a name without a file counts, so the length is exact.
        byteCount = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
        fill(bytes)
    }

    private mutating func fill(_ bytes: [UInt8]) {
        address.sun_family = sa_family_t(AF_UNIX)
        // SAFETY: both initializers have seen that the bytes fit.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
    }

    /// Lends the address to a system call; its result.
    func lend(_ call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        // SAFETY: every socket address begins as a sockaddr does, and `byteCount` lies within it; the call keeps
        // neither.
        unsafe withUnsafePointer(to: address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe call($0, byteCount) }
        }
    }
}

/// What stream and packet sockets have in common.
enum UnixSocket {
    private static func type(_ kind: __socket_type) -> Int32 { Int32(kind.rawValue) | Int32(SOCK_CLOEXEC.rawValue) }

    static func make(_ kind: __socket_type) throws(Errno) -> Descriptor {
        let type = type(kind)
        return Descriptor(owning: try retryingInterrupts { socket(AF_UNIX, type, 0) })
    }

    static func pair(_ kind: __socket_type) throws(Errno) -> (Descriptor, Descriptor) {
        var ends: (Int32, Int32) = (-1, -1)
        // SAFETY: the call writes two numbers, and there is room for two.
        let result = unsafe withUnsafeMutableBytes(of: &ends) { bytes in
            unsafe socketpair(AF_UNIX, type(kind), 0, bytes.bindMemory(to: Int32.self).baseAddress)
        }
        if result < 0 { throw Errno.current }
        return (Descriptor(owning: ends.0), Descriptor(owning: ends.1))
    }

    /// - Parameter waits: whether to wait for a place in the server's queue; else there being none is EAGAIN.
    static func connect(_ kind: __socket_type, _ path: String, waits: Bool = true) throws(Errno) -> Descriptor {
        let (socket, address) = (try make(kind), try SocketAddress(path: path))
        if !waits { try socket.setNonBlocking(true) }
        // SAFETY: `lend` says for how long the address is there.
        try retryingInterrupts { unsafe address.lend { unsafe Glibc.connect(socket.rawValue, $0, $1) } }
        if !waits { try socket.setNonBlocking(false) }
        return socket
    }

    /// A socket whose file is `path`, which must not exist, and never has wider permissions than `mode`.
    static func bind(_ kind: __socket_type, _ path: String, mode: mode_t) throws(Errno) -> Descriptor {
        let (socket, address) = (try make(kind), try SocketAddress(path: path))
        // On Linux a socket's mode, set before it is bound, becomes its file's, less the umask.
        try retryingInterrupts { fchmod(socket.rawValue, mode) }
        // SAFETY: `lend` says for how long the address is there.
        try retryingInterrupts { unsafe address.lend { unsafe Glibc.bind(socket.rawValue, $0, $1) } }
        return socket
    }

    static func listen(_ socket: Descriptor, backlog: Int32) throws(Errno) {
        try retryingInterrupts { Glibc.listen(socket.rawValue, backlog) }
    }
}
