// Mapping and unmapping, as Xen's common/grant_table.c rules them for version 1.
//
// The shared entry is believed only while it is unpinned: a first map marks it in use by compare-exchange, and copies
// what it says into an active entry; further maps follow the active entry (attacks.md GT25), except that the first
// writer asks the entry anew.

import XenTypes

extension HypervisorCore {
    /// How often a granter may change an entry under our hands before it is refused (attacks.md GT19).
    static var entryAttempts: Int { 5 }

    /// Maps one grant of `granter`, which may be the connection's own domain, for that (`GNTTABOP_map_grant_ref`).
    public func map(
        _ reference: GrantReference, of granter: DomainID, access: GrantAccess, by id: ConnectionID
    ) throws(GrantStatus) -> Mapping {
        guard let connection = connections[id], !connection.isDying else { throw .generalError }
        let mapper = connection.domain
        guard granter.isOrdinary, let owner = live[granter] else { throw .badDomain }
        guard let frame = owner.tableFrame(reference), frame.owner != nil else { throw .badGrantReference }
        guard !mapper.maptrack.isFull else { throw .noDeviceSpace }

        let isWriting = access == .readWrite
        var active: ActiveGrant
        if let pinned = owner.active[reference.rawValue] {
            guard pinned.grantee == mapper.id else { throw .generalError }
            // The same number in an earlier life: its mappings are about to go.
            guard pinned.granteeLife == mapper.life else { throw .tryAgain }
            guard let run = runs[pinned.run], !run.isRetired else { throw .badPage }
            if isWriting && pinned.writePins == 0 {
                guard run.access == .readWrite else { throw .generalError }
                try markInUse(frame, reference, by: mapper.id, writing: true)
            }
            active = pinned
        } else {
            try markInUse(frame, reference, by: mapper.id, writing: isWriting)
            let number = frame.entries.frame(Int(reference.rawValue) % grantsPerTableFrame)
            do throws(GrantStatus) {
                let (run, page) = try page(number, of: owner, writtenBy: frame, for: mapper.id, writing: isWriting)
                active = ActiveGrant(grantee: mapper.id, granteeLife: mapper.life, run: run.id, page: page)
            } catch {
                frame.entries.clear(Int(reference.rawValue) % grantsPerTableFrame, .inUse)
                throw error
            }
            frame.pinned += 1
        }
        if isWriting { active.writePins += 1 } else { active.readPins += 1 }
        owner.active[reference.rawValue] = active
        runs[active.run]?.pins += 1
        connection.mappings += 1
        let handle = mapper.maptrack.insert(
            TrackedMapping(
                connection: id, granter: owner, reference: reference, run: active.run, page: active.page, isWriting: isWriting))
        return Mapping(handle: handle, run: active.run, page: active.page)
    }

    /// The run that a frame number lies in, if it may be granted to `mapper` so.
    private func page(
        _ number: UInt32, of owner: DomainState, writtenBy frame: TableFrame, for mapper: DomainID, writing: Bool
    ) throws(GrantStatus) -> (RunState, Int) {
        guard let id = owner.frames[number], let run = runs[id], run.owner == frame.owner, run.isArmed, !run.isRetired
        else { throw .badPage }
        guard run.peer == mapper, !writing || run.access == .readWrite else { throw .permissionDenied }
        return (run, Int(number - run.firstFrame))
    }

    /// Checks an entry and sets `GTF_reading`, and `GTF_writing` for a writer, in one step that the granter cannot get
    /// between.
    private func markInUse(
        _ frame: TableFrame, _ reference: GrantReference, by mapper: DomainID, writing: Bool
    ) throws(GrantStatus) {
        let slot = Int(reference.rawValue) % grantsPerTableFrame
        var seen = frame.entries.header(slot)
        for _ in 0..<Self.entryAttempts {
            guard seen.flags.intersection([.typeMask, .subPage]) == .permitAccess, seen.domain == mapper else {
                throw .generalError
            }
            if writing && seen.flags.contains(.readOnly) { throw .generalError }
            var desired = seen
            desired.flags.insert(writing ? .inUse : .reading)
            let found = frame.entries.exchange(slot, expected: seen, desired: desired)
            if found == seen { return }
            seen = found
        }
        throw .generalError
    }

    /// Ends one mapping (`GNTTABOP_unmap_grant_ref`). The grant must be the one that was mapped under this handle, by
    /// this connection (attacks.md GT18).
    public func unmap(
        _ handle: UInt32, _ reference: GrantReference, of granter: DomainID, by id: ConnectionID
    ) throws(GrantStatus) {
        guard let connection = connections[id], !connection.isDying else { throw .generalError }
        guard
            let mapping = connection.domain.maptrack.find(handle), mapping.connection == id,
            mapping.reference == reference, mapping.granter == granter
        else { throw .badHandle }
        if !connection.notices.isEmpty { carryOut(.mapping(handle), of: connection) }
        connection.domain.maptrack.remove(handle)
        release(mapping, by: connection)
    }

    /// Takes back what `map` did, the maptrack's slot apart.
    func release(_ mapping: TrackedMapping, by connection: ConnectionState) {
        connection.mappings -= 1
        if mapping.isForeign { return unpin(mapping.run) }
        guard
            let owner = domains[mapping.granterLife], var active = owner.active[mapping.reference.rawValue],
            let frame = owner.tableFrame(mapping.reference)
        else { return }
        if mapping.isWriting { active.writePins -= 1 } else { active.readPins -= 1 }
        let slot = Int(mapping.reference.rawValue) % grantsPerTableFrame
        // A bit stands exactly as long as a pin of its kind: a writer also reads (attacks.md GT16).
        if active.pins == 0 {
            owner.active[mapping.reference.rawValue] = nil
            frame.entries.clear(slot, .inUse)
            frame.pinned -= 1
            dropTableFrameIfUnused(frame, Int(mapping.reference.rawValue) / grantsPerTableFrame, of: owner)
        } else {
            owner.active[mapping.reference.rawValue] = active
            if mapping.isWriting && active.writePins == 0 { frame.entries.clear(slot, .writing) }
        }
        unpin(mapping.run)
        forgetIfGone(owner)
    }

    /// One mapping less of a run.
    private func unpin(_ id: RunID) {
        guard let run = runs[id] else { return }
        run.pins -= 1
        if run.pins == 0 && run.isRetired { release(run, deferred: true) }
    }

    /// A page of the table whose writer is gone is kept while one of its entries is mapped, and its number with it.
    func dropTableFrameIfUnused(_ frame: TableFrame, _ index: Int, of domain: DomainState) {
        if frame.owner == nil && frame.pinned == 0 { domain.table[index] = nil }
    }
}
