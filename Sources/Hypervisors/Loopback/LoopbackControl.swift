// The toolstack's connection to the daemon: it makes and destroys domains.

import Hypervisor
import HypervisorRules
import LinuxSystem
import XenTypes

/// A privileged connection; allowed to root and to the daemon's own user. Thread-safe.
public final class LoopbackControl: Sendable {
    private let connection: HostConnection

    /// Connects to the daemon in `runDirectory`.
    public init(runDirectory: String, time: some TimeSource) throws(HypervisorError) {
        connection = try HostConnection(connectSocket(runDirectory), .control, time)
    }

    /// Makes a domain and a socket that is its own, for the process that it is handed to.
    /// - Parameters:
    ///   - id: its number; nil takes the lowest free one from 1 on.
    ///   - user: a user that may connect as this domain by itself, beside root and the daemon's own.
    public func createDomain(
        _ id: DomainID? = nil, user: UInt32? = nil, lifetime: DomainLifetime = .untilDestroyed
    ) throws(HypervisorError) -> (domain: DomainID, socket: Descriptor) {
        try connection.requests.ask(.createDomain(id, user: user, lifetime)) { answer, descriptors in
            guard case .domain(let domain) = answer, descriptors.count == 1 else { return nil }
            return (domain, descriptors[0])
        }
    }

    /// A further socket of an existing domain, for a process that serves it.
    public func openDomain(_ id: DomainID) throws(HypervisorError) -> Descriptor {
        try connection.requests.ask(.openDomain(id)) { answer, descriptors in
            guard case .domain = answer, descriptors.count == 1 else { return nil }
            return descriptors[0]
        }
    }

    /// Destroys a domain: its connections end at once.
    public func destroyDomain(_ id: DomainID) throws(HypervisorError) {
        try connection.requests.ask(.destroyDomain(id)) { answer, _ in answer == .done ? () : nil }
    }

    /// The domains' numbers, in order.
    public func domains() throws(HypervisorError) -> [DomainID] {
        try connection.requests.ask(.listDomains) { answer, _ in
            if case .domains(let domains) = answer { domains } else { nil }
        }
    }

    /// What is in use, on the whole host or by one domain.
    public func usage(of domain: DomainID? = nil) throws(HypervisorError) -> HypervisorUsage {
        try connection.requests.ask(.usage(domain)) { answer, _ in
            if case .usage(let usage) = answer { usage } else { nil }
        }
    }

    /// What is in use of the store, and the daemon's descriptors; of one domain, or of the whole host.
    public func storeUsage(of domain: DomainID? = nil) throws(HypervisorError) -> LoopbackStoreUsage {
        try connection.requests.ask(.storeUsage(domain)) { answer, _ in
            if case .storeUsage(let usage) = answer { usage } else { nil }
        }
    }

    /// Ends the connection; domains made with a lifetime of their own stay.
    public func disconnect() { connection.close() }
}
