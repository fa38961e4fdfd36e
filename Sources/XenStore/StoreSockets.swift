// The few system calls of the store's server and client. This and StoreThreads.swift hold all of the target's unsafe code.

import CLinux
import Glibc
import LinuxSystem

enum StoreSockets {
    /// A listening Unix socket at `path`, mode 0600 from the first moment on: whoever can connect is the host itself.
    static func listen(path: String) throws(Errno) -> Descriptor {
        let socket = try make()
        // On Linux a socket's mode, set before it is bound, becomes its file's mode.
        try retryingInterrupts { fchmod(socket.rawValue, 0o600) }
        try unsafe withAddress(path) { address, length in unsafe Glibc.bind(socket.rawValue, address, length) }
        try retryingInterrupts { Glibc.listen(socket.rawValue, 128) }
        try socket.setNonBlocking(true)
        return socket
    }

    /// A connection to the server at `path`.
    static func connect(path: String) throws(Errno) -> Descriptor {
        let socket = try make()
        try unsafe withAddress(path) { address, length in unsafe Glibc.connect(socket.rawValue, address, length) }
        return socket
    }

    /// Takes a waiting connection; nil: none waits.
    static func accept(_ listener: Descriptor) throws(Errno) -> Descriptor? {
        do {
            let raw = try retryingInterrupts { Glibc.accept(listener.rawValue, nil, nil) }
            let socket = Descriptor(owning: raw)
            try retryingInterrupts { fcntl(raw, F_SETFD, FD_CLOEXEC) }
            return socket
        } catch  where error.rawValue == EAGAIN || error.rawValue == ECONNABORTED {
            return nil
        }
    }

    /// Whether the peer runs as the superuser or as this process's user (`SO_PEERCRED`).
    static func peerIsHost(_ socket: Descriptor) -> Bool {
        var (process, user, group): (Int32, UInt32, UInt32) = (0, UInt32.max, 0)
        guard unsafe causeway_peer_credentials(socket.rawValue, &process, &user, &group) == 0 else { return false }
        return user == 0 || user == geteuid()
    }

    /// Two sockets connected to each other.
    static func pair() throws(Errno) -> (Descriptor, Descriptor) {
        var raw: (Int32, Int32) = (-1, -1)
        let result = unsafe withUnsafeMutableBytes(of: &raw) { bytes in
            unsafe socketpair(AF_UNIX, streamType, 0, bytes.bindMemory(to: Int32.self).baseAddress)
        }
        if result < 0 { throw Errno.current }
        return (Descriptor(owning: raw.0), Descriptor(owning: raw.1))
    }

    /// Whether the descriptor is a socket; `/dev/xen/xenbus` is not, and knows no `send`.
    static func isSocket(_ descriptor: Descriptor) -> Bool {
        var status = stat()
        return unsafe fstat(descriptor.rawValue, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
    }

    /// Sends what the kernel takes of `bytes`; without a signal when the peer is gone.
    static func send(_ descriptor: Int32, _ bytes: ArraySlice<UInt8>, isSocket: Bool = true, wait: Bool) throws(Errno) -> Int {
        let sent = try retryingInterrupts {
            unsafe bytes.withUnsafeBytes { buffer in
                isSocket
                    ? unsafe Glibc.send(
                        descriptor, buffer.baseAddress, buffer.count, Int32(MSG_NOSIGNAL) | (wait ? 0 : Int32(MSG_DONTWAIT)))
                    : unsafe Glibc.write(descriptor, buffer.baseAddress, buffer.count)
            }
        }
        return sent
    }

    /// What has arrived, at most `capacity` bytes; empty at the end of the stream. Asked of a socket with `wait` off, nothing
    /// there is EAGAIN.
    static func receive(_ descriptor: Int32, capacity: Int, wait: Bool) throws(Errno) -> [UInt8] {
        var count = 0
        var failure: Errno?
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: capacity) { buffer, initialized in
            do throws(Errno) {
                count = try retryingInterrupts {
                    wait
                        ? unsafe Glibc.read(descriptor, buffer.baseAddress, capacity)
                        : unsafe recv(descriptor, buffer.baseAddress, capacity, Int32(MSG_DONTWAIT))
                }
            } catch {
                failure = error
            }
            initialized = count
        }
        if let failure { throw failure }
        return bytes
    }

    /// Waits for events on many descriptors, at most `milliseconds`; fills in what happened.
    static func poll(_ entries: inout [pollfd], milliseconds: Int32) throws(Errno) {
        let count = nfds_t(entries.count)
        try retryingInterrupts {
            unsafe entries.withUnsafeMutableBufferPointer { unsafe Glibc.poll($0.baseAddress, count, milliseconds) }
        }
    }

    /// Nanoseconds of the monotonic clock.
    static func now() -> UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// Whether anything is at `path`.
    static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

    /// Removes a file, if it is there.
    static func removeFile(_ path: String) { _ = unsafe unlink(path) }

    /// Sleeps.
    static func pause(milliseconds: Int) {
        // An interrupted sleep is a shorter pause, which does no harm.
        _ = usleep(useconds_t(clamping: milliseconds * 1000))
    }

    private static var streamType: Int32 { Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) }

    private static func make() throws(Errno) -> Descriptor {
        Descriptor(owning: try retryingInterrupts { socket(AF_UNIX, streamType, 0) })
    }

    private static func withAddress(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) throws(Errno) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        // One byte is left for the NUL.
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path), !bytes.contains(0) else { throw Errno(ENAMETOOLONG) }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        if result < 0 { throw Errno.current }
    }
}
