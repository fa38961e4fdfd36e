// Notices, ports, and the ends of processes and domains.

import FuzzSupport
import HypervisorRules
import LinuxSystem
@testable import Loopback
import SharedMemory
import XenTypes

extension Session {
    /// A byte and a port, either of them or none, and whether the port is the client's to name.
    private func order(_ client: Client, _ input: inout ByteReader) -> (EndOrder, port: Int?, isOwn: Bool) {
        let code = input.byte()
        let byte = code & 0x80 == 0 ? UInt16(code & 7) : nil
        guard code & 0x40 == 0, let index = pick(model.ports.count, &input) else {
            return (EndOrder(byte: byte, port: nil), nil, true)
        }
        let number = model.ports[index].number
        let own = model.ports.firstIndex { $0.isOpen && $0.owner === client && $0.number == number }
        return (EndOrder(byte: byte, port: number), own, own != nil)
    }

    mutating func noticeUnmap(_ client: Client, _ input: inout ByteReader) {
        guard let index = pick(model.held.count, &input) else { return }
        let handle = model.held[index].handle
        let by = input.byte() & 7 == 0 ? client : model.held[index].by
        let (order, port, isOwn) = order(by, &input)
        let own = model.held.firstIndex { $0.by === by && $0.handle == handle }
        let allowed = isOwn && own.map { order.byte == nil || model.held[$0].isWriting } ?? false
        let reply = by.ask(.noticeUnmap(handle: handle, order))
        require((reply.answer == .done) == allowed, "\(order): \(reply.answer), allowed: \(allowed)")
        guard allowed, let own else { return }
        let page = model.held[own].page
        model.held[own].notice = Promise(offset: order.byte.map { page * 4096 + Int($0) }, port: port)
    }

    mutating func noticeRetire(_ client: Client, _ input: inout ByteReader) {
        guard let index = pick(model.shares.count, &input) else { return }
        let (share, page) = (model.shares[index], UInt32(input.byte() % 3))
        let (order, port, isOwn) = order(client, &input)
        let allowed =
            isOwn && share.owner === client && share.isLive && page < share.region.pageCount
            && (order.byte == nil || share.access == .readWrite)
        let reply = client.ask(.noticeRetire(share.run.id, page: page, order))
        require((reply.answer == .done) == allowed, "\(order): \(reply.answer), allowed: \(allowed)")
        if allowed { model.shares[index].notice = Promise(offset: order.byte.map { Int(page) * 4096 + Int($0) }, port: port) }
    }

    private mutating func add(_ reply: Reply, _ client: Client, _ change: (inout Port) -> Void) -> Int? {
        guard case .port(_, let number) = reply.answer, let bell = reply.descriptors.first else {
            require(false, "a port: \(reply.answer)")
            return nil
        }
        require(!model.ports.contains { $0.isOpen && $0.owner.domain == client.domain && $0.number == number }, "a number in use")
        var port = Port(owner: client, number: number, bell: bell)
        change(&port)
        model.ports.append(port)
        return model.ports.count - 1
    }

    mutating func allocate(_ client: Client, _ input: inout ByteReader) {
        let remote = DomainID(UInt16(input.byte() % 4))
        let reply = client.ask(.allocatePort(remote: remote))
        if !isFull(reply) { _ = add(reply, client) { $0.remote = remote } }
    }

    mutating func bind(_ client: Client, _ input: inout ByteReader) {
        guard let asked = pick(model.ports.count, &input) else { return }
        let (number, remote) = (model.ports[asked].number, model.ports[asked].owner.domain)
        // What has the number now.
        let target = model.ports.firstIndex { $0.isOpen && $0.owner.domain == remote && $0.number == number }
        let allowed = target.map { model.ports[$0].link == nil && model.ports[$0].remote == client.domain } ?? false
        let reply = client.ask(.bindPort(remote: remote, port: number))
        if isFull(reply) { return }
        guard allowed, let target else { return require(reply.descriptors.isEmpty, "bound: \(reply.answer)") }
        guard let new = add(reply, client, { $0.link = target }) else { return }
        model.ports[target].link = new
        model.ring(new)
    }

    mutating func bindVirtual(_ client: Client, _ input: inout ByteReader) {
        let number = UInt32(input.byte() % 26)
        let allowed = number < VirtualInterrupt.count && model.holder(number, in: client.domain) == nil
        let reply = client.ask(.bindVirtual(VirtualInterrupt(number)))
        if isFull(reply) { return }
        if allowed {
            _ = add(reply, client) { $0.virtual = number }
        } else {
            require(reply.descriptors.isEmpty, "interrupt \(number): \(reply.answer)")
        }
    }

    mutating func close(_ client: Client, _ input: inout ByteReader) {
        guard let index = pick(model.ports.count, &input) else { return }
        let number = model.ports[index].number
        let own = model.ports.firstIndex { $0.isOpen && $0.owner === client && $0.number == number }
        let reply = client.ask(.closePort(number))
        require((reply.answer == .done) == (own != nil), "closing: \(reply.answer)")
        if let own { model.close(own) }
    }

    // MARK: Questions and ends

    mutating func ask(_ client: Client, _ input: inout ByteReader) {
        let (code, domain) = (input.byte(), DomainID(UInt16(input.byte() % 4)))
        if code & 1 == 0 {
            let reply = client.ask(.describeDomains(from: domain))
            guard case .described(let list) = reply.answer else {
                return require(client.domain != .zero, "a list refused: \(reply.answer)")
            }
            require(client.domain == .zero && list.map(\.domain) == loop.core.domainIDs.filter { $0 >= domain }, "a list: \(list)")
            return
        }
        let number = EventPort(UInt32(input.byte() % 32))
        let reply = client.ask(.portStatus(domain, number))
        guard client.domain == .zero || client.domain == domain else {
            return require(reply.answer == .refused(.notAllowed), "\(reply.answer)")
        }
        guard case .portStatus(let status) = reply.answer else { return }
        let port = model.ports.firstIndex { $0.isOpen && $0.owner.domain == domain && $0.number == number }
        require((status == .closed) == (port == nil), "port \(number): \(status)")
    }

    /// Bytes that are a request only by chance.
    func decode(_ input: inout ByteReader) {
        let bytes = input.take(Int(input.byte()))
        guard let (request, sequence) = try? Request.decode(bytes) else { return }
        require(request.encode(sequence: sequence) == bytes, "\(request): other bytes say the same")
    }

    mutating func end(_ place: Int) {
        let client = clients[place]
        model.end(client)
        client.end()
        clients[place] = Client(loop, client.domain)
    }

    mutating func destroy(_ client: Client, _ input: inout ByteReader) {
        let domain = DomainID(UInt16(input.byte() % 2 + 1))
        let reply = client.ask(.destroyDomain(domain))
        guard client.domain == .zero else { return require(reply.answer == .refused(.notAllowed), "\(reply.answer)") }
        require(reply.answer == .done, "\(reply.answer)")
        model.ring(model.holder(VirtualInterrupt.domainException.rawValue, in: .zero))
        for place in clients.indices where clients[place].domain == domain {
            model.end(clients[place])
            clients[place].end()
        }
        while loop.core.reap() {}
        loop.applyEffects()
        _ = made { try loop.core.createDomain(domain) }
        for place in clients.indices where clients[place].domain == domain { clients[place] = Client(loop, domain) }
    }

    /// Every byte and every bell, and what is counted.
    mutating func compare() {
        for share in model.shares {
            for offset in (0..<share.region.byteCount).lazy.filter({ $0 % 4096 < 8 }) {
                let byte = share.region.load(offset, as: UInt8.self)
                require(byte == (share.cleared.contains(offset) ? 0 : 0xFF), "byte \(offset) of \(share.run.id) is \(byte)")
            }
        }
        for index in model.ports.indices where model.ports[index].isOpen {
            let bell = model.ports[index].bell
            let isRung = made { try waitReadable(bell.rawValue, milliseconds: 0) }
            require(isRung == model.ports[index].isRung, "port \(model.ports[index].number): rung: \(isRung)")
            drainPipe(bell)
            model.ports[index].isRung = false
        }
        let usage = loop.core.usage
        require(usage.mappings == model.held.count, "\(usage), not \(model.held.count) mappings")
        require(usage.ports == model.ports.count { $0.isOpen }, "\(usage), not \(model.ports.count { $0.isOpen }) ports")
    }

    mutating func end() {
        for client in clients { client.end() }
        while loop.core.reap() {}
        loop.applyEffects()
        let usage = loop.core.usage
        require(
            usage.mappings + usage.ports + usage.runs + usage.deferred + usage.dying + usage.connections == 0, "left: \(usage)")
        require(loop.runs.isEmpty && loop.bells.isEmpty && loop.byConnection.isEmpty && loop.peers.isEmpty, "left in the daemon")
    }
}
