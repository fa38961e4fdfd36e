// What a driver needs from its hypervisor. A driver is generic over this and never asks which one it has: a real Xen through
// libxen, the loopback daemon, or the in-process one of the tests.

import SharedMemory
import XenStore
import XenWire

/// Why the hypervisor did not do it.
public enum HypervisorError: Error, Hashable, Sendable {
    /// One grant of a batch could not be mapped; the others were unmapped again (XSA-365).
    case grantRefused(GrantReference, of: DomainID, GrantStatus)
    /// An event-channel operation was refused.
    case portRefused(EventPort, of: DomainID, reason: String)
    /// A limit was reached: `what` names it and its size.
    case exhausted(String)
    /// The connection to the hypervisor is gone, or it broke its protocol.
    case disconnected(String)
    /// A system call failed while `doing` something.
    case system(String, doing: String)
}

/// One domain's access to its hypervisor.
public protocol Hypervisor: AnyObject, Sendable {
    /// The domain this process acts in; decided by the connection, never by what the process says.
    var domain: DomainID { get }

    /// Opens a connection of this domain to the store.
    func connectStore() throws(HypervisorError) -> StoreClient

    // Offering pages (a granter's side).

    /// Makes `count` zeroed pages that only `peer` can reach, each offered under a grant reference of its own.
    func offerPages(_ count: Int, to peer: DomainID, access: GrantAccess) throws(HypervisorError) -> any OfferedPages

    // Receiving pages (a mapper's side).

    /// Maps grants one by one, each to be unmapped by itself. All or nothing: if one fails, those that worked are unmapped.
    func mapGrants(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> [MappedGrant]

    /// Unmaps; afterwards the pages must not be touched.
    func unmapGrants(_ grants: [MappedGrant])

    /// Maps grants side by side in one region, in the order given: a ring.
    func mapContiguous(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> any ContiguousGrants

    /// How many grants can be mapped here, as far as anybody can tell beforehand; nil: nobody can.
    func grantRoom() -> GrantRoom?

    /// Copies between grants and local pages, each operation by itself (`GNTTABOP_copy`).
    func copyGrants(_ operations: [GrantCopy]) throws(HypervisorError) -> [GrantStatus]

    // Event channels.

    /// A port that `remote` may bind to (`EVTCHNOP_alloc_unbound`).
    func allocateChannel(for remote: DomainID) throws(HypervisorError) -> any EventChannel

    /// Binds to a port that `remote` allocated for this domain (`EVTCHNOP_bind_interdomain`).
    func bindChannel(remote: DomainID, port: EventPort) throws(HypervisorError) -> any EventChannel
}

extension Hypervisor {
    /// A hypervisor that does not say.
    public func grantRoom() -> GrantRoom? { nil }
}
