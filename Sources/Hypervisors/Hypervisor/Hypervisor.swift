// What a driver needs from its hypervisor. A driver is generic over this and never asks which one it has: a real Xen
// through libxen, the loopback daemon, or the in-process one of the tests.

import LinuxSystem
import SharedMemory
import XenStore
import XenTypes

/// One domain's access to its hypervisor.
public protocol Hypervisor: AnyObject, Sendable {
    /// The domain this process acts in; decided by the connection, never by what the process says.
    var domain: DomainID { get }
    /// The clock of this connection and of the drivers that stand on it.
    var time: any TimeSource { get }

    /// Why this process has no hypervisor any more; nil as long as it has one. What is lost does not come back.
    var loss: String? { get }

    /// Opens a connection of this domain to the store.
    func connectStore() throws(HypervisorError) -> StoreClient

    // Offering pages (a granter's side).

    /// Makes `count` zeroed pages that only `peer` can reach, each offered under a grant reference of its own.
    func offerPages(_ count: Int, to peer: DomainID, access: GrantAccess) throws(HypervisorError) -> any OfferedPages

    // Receiving pages (a mapper's side).

    /// Maps grants one by one, each to be unmapped by itself. All or nothing: if one fails, those that worked are
    /// unmapped.
    func mapGrants(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> [MappedGrant]

    /// The same, for whoever `reach` says. What a device is to reach has its machine frame in `MappedGrant.machine`,
    /// and is nobody's else until it is unmapped, however this process ends. Of a page for a device alone this process
    /// has no byte: a touch of its region ends the process.
    func mapGrants(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess, reach: GrantReach
    ) throws(HypervisorError) -> [MappedGrant]

    /// Whether a device can be given machine frames here: then `mapGrants` knows every reach, and `deviceMemory` works.
    var reachesDevices: Bool { get }

    /// Makes `count` pages of this domain's own that a device reaches by their machine frames.
    /// - Parameter device: whose; noted, so that a successor of this process knows what to stop before the memory is
    ///   anybody's.
    func deviceMemory(_ count: Int, for device: PCIAddress) throws(HypervisorError) -> DeviceMemory

    /// Unmaps, in one batch; afterwards the pages must not be touched, by a device neither.
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
    /// What lies below every process of a host is not lost before the process is.
    public var loss: String? { nil }

    /// One try to have a connection to the store, for whoever goes on without one meanwhile.
    public func attemptStore() -> StoreAttempt {
        do throws(HypervisorError) { return .connected(try connectStore()) } catch {
            return loss.map { .never($0) } ?? .later
        }
    }
}

extension Hypervisor {
    /// A hypervisor below which there are no devices.
    public var reachesDevices: Bool { false }

    /// See the requirement: for this process, whose frames may be made up.
    public func mapGrants(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess, reach: GrantReach
    ) throws(HypervisorError) -> [MappedGrant] {
        guard reach == .memory else { throw .system("this hypervisor knows no real machine frames", doing: "mapping for a device") }
        return try mapGrants(references, of: granter, access: access)
    }

    /// See the requirement: there is none.
    public func deviceMemory(_ count: Int, for device: PCIAddress) throws(HypervisorError) -> DeviceMemory {
        throw .system("this hypervisor knows no real machine frames", doing: "making memory for \(device)")
    }

    /// A hypervisor that does not say.
    public func grantRoom() -> GrantRoom? { nil }
}
