// Grants as drivers see them.

import Hypervisor
import SharedMemory
import Synchronization
import XenTypes

extension LibxenHypervisor {
    /// Pages of this process that `peer` may map (libxengntshr).
    public func offerPages(_ count: Int, to peer: DomainID, access: GrantAccess) throws(HypervisorError)
        -> any OfferedPages
    {
        try offers.get().share(count, with: peer, access: access)
    }

    /// One gntdev mapping for each grant, because gntdev unmaps only what was mapped in one call: two requests that
    /// share a mapping could not be answered apart, and a page must be unmapped before its request is.
    public func mapGrants(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> [MappedGrant] {
        var grants: [MappedGrant] = []
        grants.reserveCapacity(references.count)
        // What was mapped before one fails goes with `grants`.
        for reference in references {
            let region = try self.grants.map([reference], of: granter, access: access)
            grants.append(
                MappedGrant(
                    handle: self.grants.nextNumber(), region: region, offset: 0, reference: reference, granter: granter)
            )
        }
        return grants
    }

    /// A mapping ends with the last reference to its region, which the caller now gives up: a disk operation that was
    /// begun keeps the memory that it moves data through, whatever else goes wrong. What a device reached ends here,
    /// all of it in one hypercall, and before the pages' mappings: the caller knows that the device is done.
    public func unmapGrants(_ grants: [MappedGrant]) {
        let places = grants.compactMap { DeviceGrants.place(of: $0.handle) }
        if !places.isEmpty { devices.opened?.unmap(places) }
    }

    /// Maps grants in a row, all or none (libxengnttab).
    public func mapContiguous(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> any ContiguousGrants {
        LibxenContiguous(try grants.map(references, of: granter, access: access))
    }

    /// See `Hypervisor.grantRoom`.
    public func grantRoom() -> GrantRoom? { GrantLimits.room() }

    /// Has the hypervisor copy, in one batch; one status for each (libxengnttab).
    public func copyGrants(_ operations: [GrantCopy]) throws(HypervisorError) -> [GrantStatus] {
        try grants.copy(operations)
    }
}

/// A ring's pages. No unmap notification is asked for (`xengnttab_map_grant_ref_notify`): a peer of a process that died
/// is to learn nothing, for a successor goes on with the same pages, and where none can, the store says so. Unmapped
/// with the last reference to the region.
final class LibxenContiguous: ContiguousGrants {
    let region: SharedRegion
    init(_ region: SharedRegion) { self.region = region }
    func unmap() {}
}
