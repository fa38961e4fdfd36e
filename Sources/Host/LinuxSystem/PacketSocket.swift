// Unix sockets that keep messages apart (SOCK_SEQPACKET), with descriptors alongside.

import CLinux
import Glibc

package enum PacketSocket {
    /// The longest message either side sends.
    package static let longestMessage = 48 * 1024
    /// Descriptors in one message; the kernel's bound is 253.
    package static let mostDescriptors = 200

    /// Two sockets connected to each other.
    package static func pair() throws(Errno) -> (Descriptor, Descriptor) { try UnixSocket.pair(SOCK_SEQPACKET) }

    /// A connection to the server at `path`.
    package static func connect(_ path: String) throws(Errno) -> Descriptor { try UnixSocket.connect(SOCK_SEQPACKET, path) }

    /// Listens at `path`, which must not exist. By default anybody may connect, and is asked who they are.
    /// - Parameter mode: the socket file's permissions, never wider than these.
    package static func listen(_ path: String, mode: mode_t = 0o666) throws(Errno) -> Descriptor {
        let socket = try UnixSocket.bind(SOCK_SEQPACKET, path, mode: mode)
        // What the umask took. SAFETY: the path is only read.
        try retryingInterrupts { unsafe chmod(path, mode) }
        try UnixSocket.listen(socket, backlog: 128)
        try socket.setNonBlocking(true)
        return socket
    }

    /// Accepts one connection, non-blocking; EAGAIN if there is none.
    package static func accept(_ listener: Descriptor) throws(Errno) -> Descriptor {
        Descriptor(owning: try retryingInterrupts { causeway_accept(listener.rawValue) })
    }

    /// Sends one message; whole or not at all.
    package static func send(_ socket: Descriptor, _ message: [UInt8], _ descriptors: [Descriptor] = []) throws(Errno) {
        let numbers = descriptors.map(\.rawValue)
        // SAFETY: the call reads as many bytes and numbers as it is told there are.
        let sent = unsafe message.withUnsafeBytes { bytes in
            unsafe numbers.withUnsafeBufferPointer { numbers in
                unsafe causeway_send_descriptors(
                    socket.rawValue, bytes.baseAddress, bytes.count, numbers.baseAddress, Int32(numbers.count))
            }
        }
        if sent < 0 { throw Errno.current }
    }

    /// Receives one message of at most `longestMessage` bytes. Empty when the other side has closed. More than
    /// `capacity` descriptors, or cut-off ones, are all closed, and the message fails with EMSGSIZE; so does a message
    /// that is too long.
    package static func receive(_ socket: Descriptor, descriptors capacity: Int) throws(Errno) -> ([UInt8], [Descriptor]) {
        let (message, descriptors) = try DescriptorPassing.receive(socket, longestMessage + 1, capacity)
        if message.count > longestMessage { throw Errno.messageTooLong }
        return (message, descriptors)
    }

    /// Whether all that was sent has been received, or will never be.
    package static func isReadOut(_ socket: Descriptor) -> Bool { causeway_unread_bytes(socket.rawValue) <= 0 }

    /// Whose the process at the other end was when it connected or began to listen.
    package static func peerUser(_ socket: Descriptor) throws(Errno) -> UInt32 { try peer(socket).user }

    /// The process at the other end when it connected or began to listen.
    package static func peerProcess(_ socket: Descriptor) throws(Errno) -> Int32 { try peer(socket).process }

    private static func peer(_ socket: Descriptor) throws(Errno) -> (process: Int32, user: UInt32) {
        var process: Int32 = 0
        var user: UInt32 = 0
        var group: UInt32 = 0
        // SAFETY: the call fills in three numbers.
        if unsafe causeway_peer_credentials(socket.rawValue, &process, &user, &group) < 0 { throw Errno.current }
        return (process, user)
    }
}

extension StreamSocket {
    /// What has arrived, at most `capacity` bytes, with the descriptors that came with it; empty at the end of the
    /// stream. More than `limit` descriptors, or cut-off ones, are all closed, and it is EMSGSIZE.
    package static func receive(
        _ socket: Descriptor, capacity: Int, descriptors limit: Int
    ) throws(Errno) -> ([UInt8], [Descriptor]) { try DescriptorPassing.receive(socket, capacity, limit) }
}

/// Bytes with descriptors alongside (`SCM_RIGHTS`), whatever the socket.
private enum DescriptorPassing {
    static func receive(_ socket: Descriptor, _ byteCount: Int, _ capacity: Int) throws(Errno) -> ([UInt8], [Descriptor]) {
        var numbers = [Int32](repeating: -1, count: max(capacity, 1))
        var count: Int32 = 0
        var failure: Errno?
        // SAFETY: the call fills no more than it is told there is room for; what it says it wrote counts as
        // initialized.
        let message = unsafe [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, length in
            let received = unsafe numbers.withUnsafeMutableBufferPointer { numbers in
                unsafe causeway_receive_descriptors(
                    socket.rawValue, buffer.baseAddress, byteCount, numbers.baseAddress, Int32(capacity), &count)
            }
            if received < 0 { failure = Errno.current }
            length = max(received, 0)
        }
        let descriptors = numbers.prefix(Int(count)).map { Descriptor(owning: $0) }
        if let failure { throw failure }
        return (message, descriptors)
    }
}
