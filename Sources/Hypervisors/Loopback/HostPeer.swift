// What the daemon knows of one connected socket.

import HypervisorRules
import LinuxSystem
import XenTypes

final class HostPeer {
    /// Who it is, decided by how the socket came to be.
    enum Standing {
        /// Accepted, and has not said what it wants; `user` is the kernel's word.
        case greeting(user: UInt32)
        case control
        case domain(ConnectionID, DomainID)
    }

    let socket: Descriptor
    var standing: Standing
    /// The domain that ends with this socket.
    var endsDomain: DomainID?
    /// Where notices go; made when the client says hello.
    var noticeSocket: Descriptor?
    /// The runs whose descriptor was passed, and in which direction: bit 0 for reading, bit 1 for writing.
    var given: [RunID: UInt8] = [:]
    private(set) var queue: [(notice: Notice, descriptors: [Descriptor])] = []
    /// The kernel had too many descriptors under way (ETOOMANYREFS): that passes when others receive theirs, of which
    /// no socket tells.
    var isShort = false
    /// An answer that the socket had no room for; nothing more is received until it is sent.
    var unsent: (message: [UInt8], descriptors: [Descriptor])?

    init(socket: Descriptor, standing: Standing) {
        self.socket = socket
        self.standing = standing
    }

    var connection: ConnectionID? {
        if case .domain(let connection, _) = standing { connection } else { nil }
    }

    /// Queues a notice. Of a port only the last word counts, so that a peer that binds and closes for ever does not
    /// fill the memory on behalf of a client that sleeps.
    func enqueue(_ notice: Notice, _ descriptors: [Descriptor] = []) {
        guard noticeSocket != nil else { return }
        if let port = notice.port { queue.removeAll { $0.notice.port == port } }
        queue.append((notice, descriptors))
    }

    /// Sends what the socket takes; false if the client is gone.
    func flush() -> Bool {
        guard let noticeSocket else { return true }
        var sent = 0
        defer { queue.removeFirst(sent) }
        while sent < queue.count {
            do throws(Errno) {
                try PacketSocket.send(noticeSocket, queue[sent].notice.encode(), queue[sent].descriptors)
                sent += 1
            } catch {
                // Like a full socket, it passes.
                if error == .tooManyReferences { isShort = true }
                return error.passes || isShort
            }
        }
        return true
    }
}

extension Notice {
    var port: PortID? {
        switch self {
        case .portBound(let port), .portUnbound(let port): port
        case .runGone, .runEnded: nil
        }
    }
}
