// Virtual interrupts: ports that the hypervisor itself rings (EVTCHNOP_bind_virq).

import XenTypes

/// A virtual interrupt (`VIRQ_*` of xen.h).
public struct VirtualInterrupt: Hashable, Sendable {
    /// The number.
    public let rawValue: UInt32
    /// Wraps a number; whether there is such an interrupt is the core's to say.
    public init(_ rawValue: UInt32) { self.rawValue = rawValue }
    /// A domain has ended (`VIRQ_DOM_EXC`); domain 0 hears it.
    public static let domainException = VirtualInterrupt(3)
    /// How many there are (`NR_VIRQS`).
    public static let count: UInt32 = 24
}

extension HypervisorCore {
    /// A port that rings when `interrupt` happens. One holder a domain.
    public func bindVirtual(_ interrupt: VirtualInterrupt, by id: ConnectionID) throws(CoreError) -> NewPort {
        let connection = try liveConnection(id)
        guard interrupt.rawValue < VirtualInterrupt.count else { throw .port(EventPort(0), "EINVAL") }
        guard connection.domain.virtualPorts[interrupt.rawValue] == nil else { throw .virqTaken(interrupt.rawValue) }
        let port = try addPort(of: connection, .virtual(interrupt.rawValue))
        connection.domain.virtualPorts[interrupt.rawValue] = port
        return NewPort(id: port.id, port: port.port, peer: nil)
    }

    /// Rings whoever hears `interrupt` in that domain.
    func raise(virtualInterrupt interrupt: VirtualInterrupt, in domain: DomainID) {
        guard let port = live[domain]?.virtualPorts[interrupt.rawValue] else { return }
        ringAtEnd(port)
    }

    /// What a port is, for whoever lists them (EVTCHNOP_status).
    public func status(of number: EventPort, in domain: DomainID) -> PortStatus? {
        guard let state = live[domain], number.rawValue <= UInt32(limits.ports) else { return nil }
        guard let port = state.ports[number.rawValue] else { return .closed }
        return switch port.link {
        case .unbound(let remote): .unbound(remote)
        case .bound(let peer): .interdomain(peer.domain.id, peer.port)
        case .virtual(let interrupt): .virtual(interrupt)
        }
    }
}

/// What a port is used for (`EVTCHNSTAT_*`).
public enum PortStatus: Hashable, Sendable {
    case closed
    case unbound(DomainID)
    case interdomain(DomainID, EventPort)
    case virtual(UInt32)
}
