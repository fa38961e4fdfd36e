// Unix sockets that keep messages apart (SOCK_SEQPACKET), with descriptors alongside.

import CLinux
import Glibc

package enum PacketSocket {
    /// The longest message either side sends.
    package static let longestMessage = 48 * 1024
    /// Descriptors in one message; the kernel's bound is 253.
    package static let mostDescriptors = 200
    private static var type: Int32 { Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue) }

    package static func pair() throws(Errno) -> (Descriptor, Descriptor) { try pair(type: type) }

    /// Two ends of a byte stream: a store connection.
    package static func streamPair() throws(Errno) -> (Descriptor, Descriptor) {
        try pair(type: Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue))
    }

    private static func pair(type: Int32) throws(Errno) -> (Descriptor, Descriptor) {
        var ends: (Int32, Int32) = (-1, -1)
        let result = unsafe withUnsafeMutableBytes(of: &ends) { bytes in
            unsafe socketpair(AF_UNIX, type, 0, bytes.bindMemory(to: Int32.self).baseAddress)
        }
        if result < 0 { throw Errno.current }
        return (Descriptor(owning: ends.0), Descriptor(owning: ends.1))
    }

    package static func connect(_ path: String) throws(Errno) -> Descriptor {
        let socket = Descriptor(owning: try retryingInterrupts { Glibc.socket(AF_UNIX, type, 0) })
        try retryingInterrupts {
            unsafe withAddress(path) { address, length in unsafe Glibc.connect(socket.rawValue, address, length) }
        }
        return socket
    }

    /// Listens at `path`, which must not exist. By default anybody may connect, and is asked who they are.
    /// - Parameter mode: the socket file's permissions, never wider than these.
    package static func listen(_ path: String, mode: mode_t = 0o666) throws(Errno) -> Descriptor {
        let socket = Descriptor(owning: try retryingInterrupts { Glibc.socket(AF_UNIX, type, 0) })
        // On Linux a socket's mode, set before it is bound, becomes its file's, less the umask.
        try retryingInterrupts { fchmod(socket.rawValue, mode) }
        try retryingInterrupts { unsafe withAddress(path) { address, length in unsafe bind(socket.rawValue, address, length) } }
        try retryingInterrupts { unsafe chmod(path, mode) }
        try retryingInterrupts { Glibc.listen(socket.rawValue, 128) }
        try socket.setNonBlocking(true)
        return socket
    }

    /// Accepts one connection, non-blocking; EAGAIN if there is none.
    package static func accept(_ listener: Descriptor) throws(Errno) -> Descriptor {
        Descriptor(owning: try retryingInterrupts { causeway_accept(listener.rawValue) })
    }

    private static func withAddress(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        guard bytes.count < capacity, !bytes.isEmpty else {
            errno = ENAMETOOLONG
            return -1
        }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        return unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }

    /// Sends one message; whole or not at all.
    package static func send(_ socket: Descriptor, _ message: [UInt8], _ descriptors: [Descriptor] = []) throws(Errno) {
        let numbers = descriptors.map(\.rawValue)
        let sent = unsafe message.withUnsafeBytes { bytes in
            unsafe numbers.withUnsafeBufferPointer { numbers in
                unsafe causeway_send_descriptors(
                    socket.rawValue, bytes.baseAddress, bytes.count, numbers.baseAddress, Int32(numbers.count))
            }
        }
        if sent < 0 { throw Errno.current }
    }

    /// Receives one message of at most `longestMessage` bytes. Empty when the other side has closed. More than `capacity`
    /// descriptors, or cut-off ones, are all closed, and the message fails with EMSGSIZE; so does a message that is too long.
    package static func receive(_ socket: Descriptor, descriptors capacity: Int) throws(Errno) -> ([UInt8], [Descriptor]) {
        var numbers = [Int32](repeating: -1, count: max(capacity, 1))
        var count: Int32 = 0
        var failure: Errno?
        let message = unsafe [UInt8](unsafeUninitializedCapacity: longestMessage + 1) { buffer, length in
            let received = unsafe numbers.withUnsafeMutableBufferPointer { numbers in
                unsafe causeway_receive_descriptors(
                    socket.rawValue, buffer.baseAddress, buffer.count, numbers.baseAddress, Int32(capacity), &count)
            }
            if received < 0 { failure = Errno.current }
            length = max(received, 0)
        }
        let descriptors = numbers.prefix(Int(count)).map { Descriptor(owning: $0) }
        if let failure { throw failure }
        if message.count > longestMessage { throw Errno(EMSGSIZE) }
        return (message, descriptors)
    }

    /// The process at the other end when it connected.
    package static func peerUser(_ socket: Descriptor) throws(Errno) -> UInt32 {
        var process: Int32 = 0
        var user: UInt32 = 0
        var group: UInt32 = 0
        if unsafe causeway_peer_credentials(socket.rawValue, &process, &user, &group) < 0 { throw Errno.current }
        return user
    }
}
