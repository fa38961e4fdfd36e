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
    /// What it is sent has to wait for others to receive theirs, of which no socket tells: the kernel has too many
    /// descriptors under way (ETOOMANYREFS), or its domain more than its share.
    var isShort = false
    /// Descriptors that were sent to it and may not have been received yet: with answers, and with notices.
    var passed = (answers: 0, notices: 0)
    /// When it came, by the daemon's clock; for one that has not said who it is.
    var since: UInt64 = 0
    /// An answer that the socket had no room for; nothing more is received until it is sent.
    var unsent: (message: [UInt8], descriptors: [Descriptor])?

    init(socket: Descriptor, standing: Standing) {
        self.socket = socket
        self.standing = standing
    }

    /// Whether it has not said what it wants.
    var isGreeting: Bool { if case .greeting = standing { true } else { false } }

    var connection: ConnectionID? {
        if case .domain(let connection, _) = standing { connection } else { nil }
    }

    /// Whose share it is served from.
    var owner: ServedOwner {
        switch standing {
        case .greeting(let user): .stranger(user: user)
        case .control: .domain(.zero)
        case .domain(_, let domain): .domain(domain)
        }
    }

    /// The domain that it acts for; the host's own if it has not said.
    var domain: DomainID { if case .domain(_, let domain) = standing { domain } else { .zero } }

    /// Queues a notice. Of a port only the last word counts, so that a peer that binds and closes for ever does not
    /// fill the memory on behalf of a client that sleeps.
    func enqueue(_ notice: Notice, _ descriptors: [Descriptor] = []) {
        guard noticeSocket != nil else { return }
        if let port = notice.port { queue.removeAll { $0.notice.port == port } }
        queue.append((notice, descriptors))
    }

    /// The next notice to send.
    var firstNotice: (notice: Notice, descriptors: [Descriptor])? { queue.first }

    /// It was sent.
    func removeNotice() { queue.removeFirst() }
}

/// Who shares the daemon's time with whom.
enum ServedOwner: Hashable, Sendable {
    case domain(DomainID)
    /// Whoever has not said what they want, by the kernel's word.
    case stranger(user: UInt32)
}

extension Notice {
    var port: PortID? {
        switch self {
        case .portBound(let port), .portUnbound(let port): port
        case .runGone, .runEnded: nil
        }
    }
}
