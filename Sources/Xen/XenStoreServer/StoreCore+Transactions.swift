// Transactions: begin, conflict check by generation, commit. A commit that fails changes nothing.

import XenStore

extension StoreCore {
    mutating func startTransaction(_ who: Requester) throws(StoreErrorName) -> [UInt8] {
        if !who.isPrivileged && (domains[who.domain]?.transactions ?? 0) >= limits.transactions { throw .ENOSPC }
        guard let id = connections[who.connection]?.beginTransaction() else { throw .EIO }
        domains[who.domain]?.transactions += 1
        return wireStrings([String(id)])
    }

    /// Ends a transaction, whatever the outcome: its number is free afterwards.
    mutating func endTransaction(
        _ id: UInt32, _ arguments: StoreArguments, _ who: Requester, now: UInt64
    ) throws(StoreErrorName) -> [UInt8] {
        if id != 0, connections[who.connection]?.transactions[id] == nil { throw .ENOENT }
        let word = String(decoding: try arguments.single(), as: UTF8.self)
        guard word == "T" || word == "F" else { throw .EINVAL }
        guard let overlay = connections[who.connection]?.transactions.removeValue(forKey: id) else { throw .ENOENT }
        domains[who.domain]?.transactions -= 1
        domains[who.domain]?.heldBytes -= overlay.bytes
        if word == "T" { try commit(overlay, who, now: now) }
        return StoreCore.okay
    }

    private mutating func commit(_ overlay: StoreOverlay, _ who: Requester, now: UInt64) throws(StoreErrorName) {
        if overlay.isDoomed { throw .EAGAIN }
        for (path, access) in overlay.accesses where tree[path]?.generation != access.base {
            if who.isPrivileged { holdWriter(of: path, now: now) }
            throw .EAGAIN
        }
        // Other requests may have used up the quota since the nodes were made.
        let made = overlay.ownedDelta[who.domain] ?? 0
        if made > 0 { try admit(newNodes: made, who, nil) }
        for (path, access) in overlay.accesses where access.modified { tree.set(path, access.node, by: who.domain) }
        for event in overlay.events {
            fire(event.path, exact: event.exact, before: overlay.accesses[event.path]?.basePermissions)
        }
    }

    /// Makes the domain wait whose write failed a privileged transaction, twice as long each time, so that the
    /// toolstack's next attempt finds the nodes at rest (attacks.md XS4). Only for privileged ones: a guest could else
    /// slow down another by reading.
    private mutating func holdWriter(of path: StorePath, now: UInt64) {
        let lineage = path.lineage
        let node = tree[path] ?? tree[lineage[nearest(lineage, nil)]]
        guard let writer = node?.writer, writer != .zero, var domain = domains[writer] else { return }
        let calm = domain.heldUntil &+ 1_000_000_000 < now
        domain.holds = calm ? 0 : min(domain.holds + 1, 4)
        domain.heldUntil = now &+ limits.conflictHold << domain.holds
        domains[writer] = domain
    }

    mutating func dropTransactions(of id: StoreConnectionID) {
        guard let domain = connections[id]?.domain, let open = connections[id]?.transactions else { return }
        domains[domain]?.transactions -= open.count
        domains[domain]?.heldBytes -= open.values.reduce(0) { $0 + $1.bytes }
        connections[id]?.transactions.removeAll()
    }
}
