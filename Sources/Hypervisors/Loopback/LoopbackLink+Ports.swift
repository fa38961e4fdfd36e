// Event channels of a link: a bell to wait on, and the peer's to ring.

import Hypervisor
import HypervisorRules
import LinuxSystem
import Synchronization
import XenTypes

/// One end of a channel, or a virtual interrupt's port.
package final class LinkedPort: Sendable {
    /// This side's port.
    package let number: EventPort
    /// Becomes readable when it is rung; to be drained by whoever is told so.
    package let bell: Descriptor
    let id: PortID
    private let peer: Mutex<Descriptor?>

    init(_ id: PortID, _ number: EventPort, bell: Descriptor, peer: Descriptor?) {
        self.id = id
        self.number = number
        self.bell = bell
        self.peer = Mutex(peer)
    }

    func connect(_ writer: Descriptor?) {
        let old = peer.withLock { peer in
            let old = peer
            peer = writer
            return old
        }
        withExtendedLifetime(old) {}
    }

    /// Rings the peer, whoever that is by now: what the daemon has said is heard first. A bell alone does not tell that
    /// its owner is gone, for a child that the owner forked may keep it.
    package func ring(hearing link: LoopbackLink?) {
        if let link, link.hasNews { link.hear() }
        guard let writer = peer.withLock({ $0 }) else { return }
        _ = signalPipeQuietly(writer)
    }
}

extension LoopbackLink {
    /// A port that `remote` may bind to.
    package func allocatePort(for remote: DomainID) throws(LinkFailure) -> LinkedPort { try port(.allocatePort(remote: remote)) }

    /// Binds to a port that `remote` allocated for this domain; the new port is rung already.
    package func bindPort(remote: DomainID, port number: EventPort) throws(LinkFailure) -> LinkedPort {
        try port(.bindPort(remote: remote, port: number))
    }

    /// A port that the hypervisor rings when `interrupt` happens.
    package func bindVirtual(_ interrupt: VirtualInterrupt) throws(LinkFailure) -> LinkedPort {
        try port(.bindVirtual(interrupt))
    }

    private func port(_ request: Request) throws(LinkFailure) -> LinkedPort {
        try ask(request) { answer, descriptors in
            guard case .port(let id, let number) = answer, descriptors.count == 1 || descriptors.count == 2 else { return nil }
            let port = LinkedPort(id, number, bell: descriptors[0], peer: descriptors.count == 2 ? descriptors[1] : nil)
            // Within the request, so that a notice finds it.
            state.withLock { $0.ports[id] = WeakPort(port: port) }
            return port
        }
    }

    /// Gives a port back.
    package func close(_ port: LinkedPort) {
        _ = state.withLock { $0.ports.removeValue(forKey: port.id) }
        port.connect(nil)
        try? done(.closePort(port.number))
    }

    // MARK: What a toolstack asks

    /// What a port of a domain is; another domain's than this one's for domain 0.
    package func status(of port: EventPort, in domain: DomainID) throws(LinkFailure) -> PortStatus {
        try ask(.portStatus(domain, port)) { answer, _ in
            if case .portStatus(let status) = answer { status } else { nil }
        }
    }

    /// The domains from a number on, in order; for domain 0. At most so many as one answer holds.
    package func describeDomains(from first: DomainID) throws(LinkFailure) -> [DomainDescription] {
        try ask(.describeDomains(from: first)) { answer, _ in
            if case .described(let domains) = answer { domains } else { nil }
        }
    }

    /// Destroys a domain; for domain 0.
    package func destroy(_ domain: DomainID) throws(LinkFailure) { try done(.destroyDomain(domain)) }

    /// What this domain has in use, of all its processes.
    package func usage() throws(LinkFailure) -> HypervisorUsage {
        try ask(.usage(domain)) { answer, _ in
            if case .usage(let usage) = answer { usage } else { nil }
        }
    }
}
