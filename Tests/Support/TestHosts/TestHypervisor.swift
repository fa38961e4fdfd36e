// One domain's hypervisor, whichever the tests stand on.

import Hypervisor
import LinuxSystem
import XenStore
import XenTypes

/// A connection of one domain.
public final class TestHypervisor: Hypervisor {
    /// The host that it is of.
    public let host: TestHost
    private let inner: any Hypervisor
    private let variables: ProcessVariables?
    private let end: @Sendable () -> Void

    init(_ host: TestHost, _ inner: any Hypervisor, _ variables: ProcessVariables? = nil, end: @escaping @Sendable () -> Void) {
        self.host = host
        self.inner = inner
        self.variables = variables
        self.end = end
    }

    /// What `kill -9` does: the host releases everything of this connection at once. Further calls fail.
    public func disconnect() { end() }

    /// See `Hypervisor.domain`.
    public var domain: DomainID { inner.domain }
    /// See `Hypervisor.time`.
    public var time: any TimeSource { inner.time }
    /// See `Hypervisor.loss`.
    public var loss: String? { inner.loss }

    /// See `Hypervisor.connectStore`.
    public func connectStore() throws(HypervisorError) -> StoreClient { try inner.connectStore() }

    /// Calls that open a handle of Xen's libraries do so as this domain's process.
    private func opening<R: Sendable>(_ body: () throws(HypervisorError) -> R) throws(HypervisorError) -> R {
        guard let variables else { return try body() }
        return try variables.during(body)
    }

    /// See `Hypervisor.offerPages`.
    public func offerPages(_ count: Int, to peer: DomainID, access: GrantAccess) throws(HypervisorError) -> any OfferedPages {
        try opening { () throws(HypervisorError) in try inner.offerPages(count, to: peer, access: access) }
    }

    private func pass(_ references: [GrantReference], of granter: DomainID) throws(HypervisorError) {
        guard let (reference, status) = host.faults.withLock({ $0.count(references) }) else { return }
        throw .grantRefused(reference, of: granter, status)
    }

    /// See `Hypervisor.mapGrants`.
    public func mapGrants(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> [MappedGrant] {
        try pass(references, of: granter)
        let mapped = try inner.mapGrants(references, of: granter, access: access)
        host.pages.withLock { $0.add(mapped, by: self) }
        return mapped
    }

    /// See `Hypervisor.unmapGrants`.
    public func unmapGrants(_ grants: [MappedGrant]) {
        host.pages.withLock { $0.remove(grants, by: self) }
        inner.unmapGrants(grants)
    }

    /// See `Hypervisor.mapContiguous`.
    public func mapContiguous(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> any ContiguousGrants {
        try pass(references, of: granter)
        return try inner.mapContiguous(references, of: granter, access: access)
    }

    /// See `Hypervisor.grantRoom`.
    public func grantRoom() -> GrantRoom? { inner.grantRoom() }

    /// See `Hypervisor.copyGrants`. Each grant of a copy counts as a map; the others go on.
    public func copyGrants(_ operations: [GrantCopy]) throws(HypervisorError) -> [GrantStatus] {
        let faults: [GrantStatus?] = host.faults.withLock { faults in
            operations.map { operation in
                for case .grant(let reference, _, _) in [operation.source, operation.destination] {
                    if let (_, status) = faults.count([reference]) { return status }
                }
                return nil
            }
        }
        let left = zip(operations, faults).filter { $1 == nil }.map(\.0)
        var statuses = left.isEmpty ? [] : try inner.copyGrants(left)
        for (place, fault) in faults.enumerated() { if let fault { statuses.insert(fault, at: place) } }
        return statuses
    }

    /// See `Hypervisor.allocateChannel`.
    public func allocateChannel(for remote: DomainID) throws(HypervisorError) -> any EventChannel {
        try opening { () throws(HypervisorError) in try inner.allocateChannel(for: remote) }
    }

    /// See `Hypervisor.bindChannel`.
    public func bindChannel(remote: DomainID, port: EventPort) throws(HypervisorError) -> any EventChannel {
        try opening { () throws(HypervisorError) in try inner.bindChannel(remote: remote, port: port) }
    }
}
