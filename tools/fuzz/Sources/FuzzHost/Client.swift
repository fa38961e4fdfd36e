// A process of a domain, as the daemon knows it: a peer, its memory, its bells.

import FuzzSupport
import Glibc
import HypervisorRules
import LinuxSystem
@testable import Loopback
import SharedMemory
import XenTypes

final class Client {
    let domain: DomainID
    let peer: HostPeer
    private let far: Descriptor
    private let loop: HostLoop
    private var notices: Descriptor?
    var table = GranterTable()
    private(set) var isOver = false

    init(_ loop: HostLoop, _ domain: DomainID) {
        self.loop = loop
        self.domain = domain
        var ends: [Int32] = [-1, -1]
        require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0, "no sockets")
        let mine = Descriptor(owning: ends[0])
        far = Descriptor(owning: ends[1])
        peer = HostPeer(socket: mine, standing: .greeting(user: geteuid()))
        loop.add(peer)
        let reply = ask(.hello(.domain(domain)))
        require(reply.answer == .welcome(domain) && reply.descriptors.count == 1, "no welcome: \(reply.answer)")
        notices = reply.descriptors.first
        let frame = ask(.addTableFrame)
        guard case .tableFrame(let index) = frame.answer, let memory = frame.descriptors.first else {
            fatalError("no page of the table: \(frame.answer)")
        }
        let region = made { try SharedRegion(mapping: memory, byteCount: SharedRegion.pageSize, writable: true) }
        table.add(SharedGrantTableFrame(region), index: Int(index))
    }

    /// A request by way of its bytes, as one that comes over the socket.
    func ask(_ request: Request) -> Reply {
        let bytes = request.encode(sequence: 7)
        guard let (decoded, sequence) = try? Request.decode(bytes) else { fatalError("\(request): not decoded") }
        require(decoded == request && sequence == 7, "\(request) became \(decoded)")
        let reply = loop.answer(decoded, from: peer)
        loop.applyEffects()
        drain()
        return reply
    }

    /// Whatever bytes; nothing, if they are no request.
    func ask(raw bytes: [UInt8]) -> (Request, Reply)? {
        guard let (request, _) = try? Request.decode(bytes) else { return nil }
        return (request, ask(request))
    }

    private func drain() {
        guard let notices else { return }
        loop.flush(peer)
        var message = [UInt8](repeating: 0, count: 256)
        while true {
            // What comes with it is closed again.
            let count = recv(notices.rawValue, &message, message.count, Int32(MSG_DONTWAIT))
            guard count > 0 else { return }
            require((try? Notice.decode(Array(message[..<count]))) != nil, "a notice that is none")
        }
    }

    func end() {
        if isOver { return }
        isOver = true
        loop.end(peer)
        while loop.core.reap(budget: 3) { loop.applyEffects() }
        loop.applyEffects()
    }
}
