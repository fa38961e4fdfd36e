// TCP on this machine's own addresses, which nobody reaches from outside.

import CLinux

/// Sockets of TCP.
package enum LoopbackSocket {
    /// Listens on 127.0.0.1, or on ::1.
    /// - Parameters:
    ///   - port: 0: any that is free.
    ///   - isSix: over IPv6.
    /// - Returns: the socket, and its port.
    package static func listen(port: UInt16, isSix: Bool) throws(Errno) -> (socket: Descriptor, port: UInt16) {
        var port = port
        // SAFETY: the call reads and writes the number.
        let raw = unsafe causeway_listen_loopback(isSix ? 1 : 0, &port, 128)
        if raw < 0 { throw Errno.current }
        return (Descriptor(owning: raw), port)
    }
}

extension Descriptor {
    /// Has what is written sent at once, where it is TCP.
    package func setNoDelay() { causeway_set_no_delay(rawValue) }
}
