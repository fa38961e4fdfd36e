// Interdomain event channels, as Xen's common/event_channel.c rules them. The daemon uses these rules to bind and to
// close; its clients ring each other without it. The in-process host also keeps pending and masked here.

import XenTypes

extension HypervisorCore {
    /// Makes a port that `remote`, which may be this domain itself, may bind to (`EVTCHNOP_alloc_unbound`).
    public func allocatePort(for remote: DomainID, by id: ConnectionID) throws(CoreError) -> NewPort {
        let connection = try liveConnection(id)
        guard remote.isOrdinary else { throw .noSuchDomain(remote) }
        let port = try addPort(of: connection, .unbound(remote: remote))
        return NewPort(id: port.id, port: port.port, peer: nil)
    }

    /// Binds to a port that waits for this domain (`EVTCHNOP_bind_interdomain`). The new port is pending from the
    /// start: the other side may have rung while nobody was there.
    public func bindPort(remote: DomainID, port number: EventPort, by id: ConnectionID) throws(CoreError) -> NewPort {
        let connection = try liveConnection(id)
        guard remote.isOrdinary, let other = live[remote] else { throw .noSuchDomain(remote) }
        guard let peer = other.ports[number.rawValue] else { throw .port(number, "EINVAL") }
        guard case .unbound(let expected) = peer.link, expected == connection.domain.id else { throw .port(number, "EINVAL") }
        let port = try addPort(of: connection, .bound(peer))
        peer.link = .bound(port)
        raise(port)
        return NewPort(id: port.id, port: port.port, peer: peer.id)
    }

    func addPort(of connection: ConnectionState, _ link: PortState.Link) throws(CoreError) -> PortState {
        let domain = connection.domain
        // Port 0 is never valid.
        guard domain.ports.count < limits.ports else { throw .limit("event channels", limits.ports) }
        while domain.nextPort == 0 || domain.ports[domain.nextPort] != nil {
            domain.nextPort = domain.nextPort >= UInt32(limits.ports) ? 1 : domain.nextPort + 1
        }
        let port = PortState(
            id: PortID(nextSerial()), port: EventPort(domain.nextPort), domain: domain, owner: connection.id, link: link)
        domain.ports[port.port.rawValue] = port
        domain.nextPort = domain.nextPort >= UInt32(limits.ports) ? 1 : domain.nextPort + 1
        ports[port.id] = port
        connection.ports.insert(port.id)
        return port
    }

    /// Gives a port back (`EVTCHNOP_close`). The other end waits for this domain again, and is told.
    public func closePort(_ port: EventPort, by id: ConnectionID) throws(CoreError) {
        close(try ownPort(port, id))
    }

    func close(_ port: PortState) {
        if case .bound(let peer) = port.link {
            peer.link = .unbound(remote: port.domain.id)
            emit(.peerClosed(peer.id))
            raise(peer)
        }
        if case .virtual(let virq) = port.link { port.domain.virtualPorts[virq] = nil }
        port.domain.ports[port.port.rawValue] = nil
        ports[port.id] = nil
        connections[port.owner]?.ports.remove(port.id)
        emit(.portClosed(port.id))
    }

    /// Rings the other end (`EVTCHNOP_send`). With nobody there the event is dropped, as Xen does.
    public func notify(_ port: EventPort, by id: ConnectionID) throws(CoreError) {
        if case .bound(let peer) = try ownPort(port, id).link { raise(peer) }
    }

    private func raise(_ port: PortState) {
        if port.isPending { return }
        port.isPending = true
        if !port.isMasked { emit(.ring(port.id)) }
    }

    /// Holds back the port until it is unmasked.
    public func mask(_ port: EventPort, by id: ConnectionID) throws(CoreError) {
        try ownPort(port, id).isMasked = true
    }

    /// Lets the port ring again; at once if it is pending.
    public func unmask(_ port: EventPort, by id: ConnectionID) throws(CoreError) {
        let state = try ownPort(port, id)
        guard state.isMasked else { return }
        state.isMasked = false
        if state.isPending { emit(.ring(state.id)) }
    }

    /// Clears the pending bit; true if it stood.
    public func takePending(_ port: EventPort, by id: ConnectionID) throws(CoreError) -> Bool {
        let state = try ownPort(port, id)
        defer { state.isPending = false }
        return state.isPending
    }

    /// The port at the other end, if one is bound.
    public func peer(of port: PortID) -> PortID? {
        guard case .bound(let peer)? = ports[port]?.link else { return nil }
        return peer.id
    }

    /// A port is its connection's own: another process's number is as good as none.
    func ownPort(_ port: EventPort, _ id: ConnectionID) throws(CoreError) -> PortState {
        let connection = try liveConnection(id)
        guard let state = connection.domain.ports[port.rawValue], state.owner == id else { throw .port(port, "EINVAL") }
        return state
    }
}

extension HypervisorCore {
    /// The port at the other end of a connection's own.
    public func peer(of port: EventPort, by id: ConnectionID) -> PortID? {
        guard let connection = connections[id], let state = connection.domain.ports[port.rawValue], state.owner == id
        else { return nil }
        return peer(of: state.id)
    }
}
