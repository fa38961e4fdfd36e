// Pages of a domain mapped by their frame number, without a grant: what a privileged domain may do to any other
// (XENMEM_add_to_physmap of foreign frames, privcmd's mmapbatch). A console's page is found so.

import XenTypes

extension HypervisorCore {
    /// Maps frame `number` of `domain` for a connection of domain 0. It pins its run as a grant's mapping does, so that
    /// the page outlives its owner's wish to be rid of it, and it is ended by `unmap` under the frame's number in the
    /// place of a reference.
    public func mapForeign(
        _ number: UInt32, of domain: DomainID, access: GrantAccess, by id: ConnectionID
    ) throws(GrantStatus) -> Mapping {
        guard let connection = connections[id], !connection.isDying else { throw .generalError }
        // attacks.md GT36: nobody else's to ask for, whatever the frame.
        guard connection.domain.id == .zero else { throw .permissionDenied }
        guard domain.isOrdinary, domain != .zero, let owner = live[domain] else { throw .badDomain }
        guard !connection.domain.maptrack.isFull else { throw .noDeviceSpace }
        guard let runID = owner.frames[number], let run = runs[runID], run.isArmed, !run.isRetired else { throw .badPage }
        // A run that its owner sealed has no writers but the owner.
        guard access == .readOnly || run.access == .readWrite else { throw .permissionDenied }
        let page = Int(number - run.firstFrame)
        run.pins += 1
        connection.mappings += 1
        let handle = connection.domain.maptrack.insert(
            TrackedMapping(
                connection: id, granter: owner, reference: GrantReference(number), run: runID, page: page,
                isWriting: access == .readWrite, isForeign: true))
        return Mapping(handle: handle, run: runID, page: page)
    }
}
