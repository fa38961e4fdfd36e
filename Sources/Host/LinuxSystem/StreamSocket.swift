// Unix sockets that carry bytes in order (SOCK_STREAM): a store's connections, a status socket.

import CLinux
import Glibc

package enum StreamSocket {
    /// Listens at `path`, which must not exist, with mode 0600 from the first moment on: whoever can connect is this
    /// user, or root.
    /// - Parameters:
    ///   - backlog: connections that may wait to be accepted.
    ///   - blocks: whether `accept` waits for one.
    package static func listen(path: String, backlog: Int32 = 128, blocks: Bool = false) throws(Errno) -> Descriptor {
        let socket = try UnixSocket.bind(SOCK_STREAM, path, mode: 0o600)
        try UnixSocket.listen(socket, backlog: backlog)
        if !blocks { try socket.setNonBlocking(true) }
        return socket
    }

    /// A connection to the server at `path`, which blocks.
    /// - Parameter waits: whether to wait for a place in the server's queue; else there being none is EAGAIN.
    package static func connect(path: String, waits: Bool = true) throws(Errno) -> Descriptor {
        try UnixSocket.connect(SOCK_STREAM, path, waits: waits)
    }

    /// Takes a connection, which blocks whatever the listener does; nil: none waits, or the one that did is gone.
    package static func accept(_ listener: Descriptor) throws(Errno) -> Descriptor? {
        do throws(Errno) {
            let raw = try retryingInterrupts { Glibc.accept(listener.rawValue, nil, nil) }
            let socket = Descriptor(owning: raw)
            try retryingInterrupts { fcntl(raw, F_SETFD, FD_CLOEXEC) }
            return socket
        } catch {
            if error == .wouldBlock || error == .connectionAborted { return nil }
            throw error
        }
    }

    /// Whether the peer runs as the superuser or as this process's user (`SO_PEERCRED`).
    package static func peerIsHost(_ socket: Descriptor) -> Bool {
        guard let user = try? PacketSocket.peerUser(socket) else { return false }
        return user == 0 || user == geteuid()
    }

    /// Two sockets connected to each other.
    package static func pair() throws(Errno) -> (Descriptor, Descriptor) { try UnixSocket.pair(SOCK_STREAM) }

    /// Sends what the kernel takes of `bytes`; without a signal when the peer is gone.
    /// - Parameters:
    ///   - isSocket: false for a device such as /dev/xen/xenbus, which knows no `send`.
    ///   - wait: whether to wait for room; else there being none is EAGAIN.
    package static func send(
        _ descriptor: Int32, _ bytes: ArraySlice<UInt8>, isSocket: Bool = true, wait: Bool
    ) throws(Errno) -> Int {
        let flags = Int32(MSG_NOSIGNAL) | (wait ? 0 : Int32(MSG_DONTWAIT))
        // SAFETY: the kernel reads `count` bytes of the buffer during the call.
        return try retryingInterrupts {
            unsafe bytes.withUnsafeBytes { buffer in
                isSocket
                    ? unsafe Glibc.send(descriptor, buffer.baseAddress, buffer.count, flags)
                    : unsafe Glibc.write(descriptor, buffer.baseAddress, buffer.count)
            }
        }
    }

    /// What has arrived, at most `capacity` bytes; empty at the end of the stream. Asked of a socket with `wait` off,
    /// nothing there is EAGAIN.
    package static func receive(_ descriptor: Int32, capacity: Int, wait: Bool) throws(Errno) -> [UInt8] {
        var failure: Errno?
        // SAFETY: the kernel writes at most `capacity` bytes, and as many as it says count as initialized.
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: capacity) { buffer, initialized in
            do throws(Errno) {
                initialized = try retryingInterrupts {
                    wait
                        ? unsafe Glibc.read(descriptor, buffer.baseAddress, capacity)
                        : unsafe recv(descriptor, buffer.baseAddress, capacity, Int32(MSG_DONTWAIT))
                }
            } catch {
                initialized = 0
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Whether a server listens on `path`, as it bound it. Looks at the kernel's table and connects to nobody: there
    /// are servers that log each visitor who goes away.
    package static func isListening(at path: String) -> Bool {
        guard let table = FileSystem.text(of: "/proc/net/unix") else { return accepts(at: path) }
        return listeningSocket(at: path, in: table) != nil
    }

    /// Who listens on `path`, as they bound it, found as `isListening` does; nil: nobody.
    package static func listeningHolder(at path: String) -> ClaimHolder? {
        guard let table = FileSystem.text(of: "/proc/net/unix") else {
            return accepts(at: path) ? ClaimHolder(process: nil) : nil
        }
        return listeningSocket(at: path, in: table).map { ClaimHolder(process: OpenFile.process(withSocket: $0)) }
    }

    /// The inode of the socket that listens on `path`.
    private static func listeningSocket(at path: String, in table: String) -> UInt64? {
        for line in table.split(separator: "\n") {
            // Num RefCount Protocol Flags Type St Inode Path; __SO_ACCEPTCON is bit 16.
            let fields = line.split(separator: " ", maxSplits: 7)
            guard fields.count == 8, fields[7] == path, let flags = UInt32(fields[3], radix: 16) else { continue }
            if flags & 1 << 16 != 0 { return UInt64(fields[6]) ?? 0 }
        }
        return nil
    }

    /// The process that listens on `path`; nil: nobody, or it cannot be told.
    package static func listener(at path: String) -> Int32? {
        guard let socket = try? connect(path: path) else { return nil }
        return try? PacketSocket.peerProcess(socket)
    }

    /// Whether a server accepts on `path` right now.
    package static func accepts(at path: String) -> Bool { (try? connect(path: path)) != nil }
}

extension Descriptor {
    /// Whether it is a socket; `/dev/xen/xenbus` is not.
    package var isSocket: Bool { FileSystem.kind(of: self) == .socket }

    /// How long receiving may wait (`SO_RCVTIMEO`), or sending with `SO_SNDTIMEO`; then it is EAGAIN.
    package func setTimeout(_ option: Int32, seconds: Int) throws(Errno) {
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        // SAFETY: the kernel reads the timeval that it is given the size of.
        try retryingInterrupts {
            unsafe setsockopt(rawValue, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    /// Ends both directions: whoever waits for the socket wakes.
    package func shutDown() { _ = shutdown(rawValue, Int32(SHUT_RDWR)) }
}

/// Single messages to a Unix socket.
package enum DatagramSocket {
    /// Two sockets connected to each other that never wait, with room for about so many bytes each way, as far as the
    /// kernel lets them.
    package static func pair(bufferBytes: Int) throws(Errno) -> (Descriptor, Descriptor) {
        var ends: (Int32, Int32) = (-1, -1)
        // SAFETY: the call writes two numbers, and there is room for two.
        let result = unsafe withUnsafeMutableBytes(of: &ends) { bytes in
            unsafe causeway_datagram_pair(bytes.bindMemory(to: Int32.self).baseAddress, Int32(clamping: bufferBytes))
        }
        if result < 0 { throw Errno.current }
        return (Descriptor(owning: ends.0), Descriptor(owning: ends.1))
    }

    /// Sends `message` to the socket at `name`: a path, or with `@` before it a name without a file.
    package static func send(_ message: String, to name: String) throws(Errno) {
        let (socket, address) = (try UnixSocket.make(SOCK_DGRAM), try SocketAddress(notifyName: name))
        let bytes = Array(message.utf8)
        // SAFETY: the kernel reads the bytes and the address during the call.
        try retryingInterrupts {
            unsafe address.lend { place, length in
                Int32(
                    truncatingIfNeeded: unsafe sendto(socket.rawValue, bytes, bytes.count, Int32(MSG_NOSIGNAL), place, length))
            }
        }
    }
}
