// Releasing what a dead process held, in slices: a million mappings must not keep the others waiting (attacks.md GT20).

extension HypervisorCore {
    /// Releases at most about `budget` resources of connections that are gone; true if there is more to do.
    public func reap(budget: Int = 4096) -> Bool {
        var left = budget
        while let connection = dying.first {
            guard release(connection, &left) else { return true }
            dying.removeFirst()
            connections[connection.id] = nil
            connection.domain.connections.remove(connection.id)
            emit(.connectionReleased(connection.id))
            forgetIfGone(connection.domain)
        }
        return false
    }

    /// What is to be done at an end first, and then ports, so that the peers learn of the death at once and, when they
    /// look, see what it has changed. False when the budget ran out.
    private func release(_ connection: ConnectionState, _ left: inout Int) -> Bool {
        let domain = connection.domain
        // Listed once: to look for the first of a dictionary that empties costs more and more.
        if connection.lastNotices == nil { connection.lastNotices = Array(connection.notices.keys) }
        while let subject = connection.lastNotices?.last {
            guard spend(1, &left) else { return false }
            connection.lastNotices?.removeLast()
            carryOut(subject, of: connection)
        }
        while let id = connection.ports.first {
            guard spend(1, &left) else { return false }
            if let port = ports[id] { close(port) } else { connection.ports.remove(id) }
        }
        while connection.mappings > 0 && connection.reapedSlots < domain.maptrack.slotCount {
            guard spend(1, &left) else { return false }
            let slot = connection.reapedSlots
            connection.reapedSlots += 1
            guard let mapping = domain.maptrack.mapping(slot: slot), mapping.connection == connection.id else { continue }
            domain.maptrack.remove(slot: slot)
            release(mapping, by: connection)
        }
        while let id = connection.runs.first {
            guard spend(1, &left) else { return false }
            connection.runs.remove(id)
            if let run = runs[id], !run.isRetired { _ = retire(run) }
        }
        while let index = connection.tableFrames.popLast() {
            guard let frame = domain.table[index] else { continue }
            frame.owner = nil
            dropTableFrameIfUnused(frame, index, of: domain)
        }
        return true
    }

    private func spend(_ amount: Int, _ left: inout Int) -> Bool {
        guard left > 0 else { return false }
        left -= amount
        return true
    }
}
