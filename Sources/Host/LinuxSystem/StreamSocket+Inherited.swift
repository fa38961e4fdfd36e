// A socket that was open when this process began.

import Glibc

extension StreamSocket {
    /// What a descriptor is that somebody else has opened.
    package enum Inherited {
        /// A Unix stream socket that listens.
        case listening(Descriptor)
        /// One with somebody at its other end.
        case connected(Descriptor)
        /// Anything else; it is left as it was.
        case foreign
    }

    /// Takes a descriptor that this process was started with, and is not left open for what it starts; EBADF: there is
    /// none. It blocks from here on.
    package static func inherited(_ number: Int32) throws(Errno) -> Inherited {
        _ = try retryingInterrupts { fcntl(number, F_GETFD) }
        guard option(SO_DOMAIN, of: number) == AF_UNIX, option(SO_TYPE, of: number) == Int32(SOCK_STREAM.rawValue) else {
            return .foreign
        }
        let listens = option(SO_ACCEPTCONN, of: number) == 1
        guard listens || isConnected(number) else { return .foreign }
        let socket = Descriptor(owning: number)
        socket.closeOnExec()
        try socket.setNonBlocking(false)
        return listens ? .listening(socket) : .connected(socket)
    }

    private static func option(_ name: Int32, of number: Int32) -> Int32? {
        var (value, length) = (Int32(0), socklen_t(MemoryLayout<Int32>.size))
        // SAFETY: the call writes at most the length's bytes, and that is the value's.
        return unsafe getsockopt(number, SOL_SOCKET, name, &value, &length) == 0 ? value : nil
    }

    private static func isConnected(_ number: Int32) -> Bool {
        var (address, length) = (sockaddr_un(), socklen_t(MemoryLayout<sockaddr_un>.size))
        // SAFETY: the call writes at most the length's bytes, and that is the address's.
        return unsafe withUnsafeMutableBytes(of: &address) { bytes in
            unsafe getpeername(number, bytes.assumingMemoryBound(to: sockaddr.self).baseAddress, &length) == 0
        }
    }
}
