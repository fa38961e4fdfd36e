// Runs of memory and the pages of the grant table: what a granter asks its hypervisor for.

import XenTypes

extension HypervisorCore {
    /// Makes a run of `pages` pages of the connection's domain that only `peer`, which may be the domain itself, can be
    /// granted. Its pages get frame numbers side by side in the domain's pseudo-physical space.
    public func makeRun(
        pages: Int, to peer: DomainID, access: GrantAccess, by id: ConnectionID
    ) throws(CoreError) -> NewRun {
        let connection = try liveConnection(id)
        let domain = connection.domain
        guard pages > 0, pages <= limits.pagesPerRun else { throw .badCount(pages) }
        guard peer.isOrdinary else { throw .noSuchDomain(peer) }
        guard domain.runCount < limits.runs else { throw .limit("runs", limits.runs) }
        guard pages <= limits.pages - domain.pageCount else { throw .limit("pages", limits.pages) }
        guard let first = freeFrames(pages, of: domain) else { throw .limit("frame numbers", Int(UInt32.max)) }
        guard let machineRun = machine.take(pages) else { throw .limit("machine frames", Int(MachineRun.frameCount)) }
        let frames = first..<first + UInt32(pages)
        let run = RunState(
            id: RunID(nextSerial()), of: connection, to: peer, access: access, frames: frames, machine: machineRun)
        for frame in frames { domain.frames[frame] = run.id }
        domain.nextFrame = frames.upperBound
        domain.runCount += 1
        domain.pageCount += pages
        runs[run.id] = run
        connection.runs.insert(run.id)
        return NewRun(id: run.id, firstFrame: first)
    }

    /// Numbers are used once round before they come again, so that a stale one names nothing for long.
    private func freeFrames(_ count: Int, of domain: DomainState) -> UInt32? {
        var first = domain.nextFrame
        var wrapped = false
        search: while true {
            // The last number is never given out, so that the number after a run is always a number.
            if UInt64(first) + UInt64(count) >= UInt64(UInt32.max) {
                if wrapped { return nil }
                wrapped = true
                first = 0x1000
            }
            for offset in 0..<UInt32(count) where domain.frames[first + offset] != nil {
                first = first + offset + 1
                continue search
            }
            return first
        }
    }

    /// The owner has mapped a read-only run and writers were forbidden: from now on it can be granted.
    public func armRun(_ id: RunID, by connection: ConnectionID) throws(CoreError) {
        _ = try liveConnection(connection)
        guard let run = runs[id], run.owner == connection, !run.isRetired else { throw .noSuchRun(id) }
        run.isArmed = true
    }

    /// The owner gives a run up: no new mapping of it is made. True if it was released at once; otherwise it is when
    /// the last mapping ends, and the effect says so.
    @discardableResult
    public func retireRun(_ id: RunID, by connection: ConnectionID) throws(CoreError) -> Bool {
        _ = try liveConnection(connection)
        guard let run = runs[id], run.owner == connection, !run.isRetired else { throw .noSuchRun(id) }
        if let owner = connections[connection] { carryOut(.run(id), of: owner) }
        return retire(run)
    }

    func retire(_ run: RunState) -> Bool {
        run.isRetired = true
        deferredRuns += 1
        if run.pins > 0 { return false }
        release(run, deferred: false)
        return true
    }

    func release(_ run: RunState, deferred: Bool) {
        deferredRuns -= 1
        runs[run.id] = nil
        machine.giveBack(run.machine, run.pageCount)
        for offset in 0..<UInt32(run.pageCount) { run.domain.frames[run.firstFrame + offset] = nil }
        run.domain.runCount -= 1
        run.domain.pageCount -= run.pageCount
        connections[run.owner]?.runs.remove(run.id)
        emit(.runReleased(run.id, owner: run.owner, deferred: deferred))
    }

    /// Adds a page to the domain's grant table, written by this connection alone; returns its number.
    public func addTableFrame(_ entries: any GrantTableFrame, by id: ConnectionID) throws(CoreError) -> Int {
        let connection = try liveConnection(id)
        let domain = connection.domain
        let frame = TableFrame(owner: id, entries: entries)
        let index: Int
        if let free = domain.table.firstIndex(where: { $0 == nil }) {
            domain.table[free] = frame
            index = free
        } else {
            guard domain.table.count < limits.tableFrames else { throw .limit("grant table pages", limits.tableFrames) }
            index = domain.table.count
            domain.table.append(frame)
        }
        connection.tableFrames.append(index)
        return index
    }

    /// A run's machine frames: what a mapper learns of it (Xen's `dev_bus_addr`).
    public func machineRun(_ id: RunID) -> MachineRun? { runs[id]?.machine }

    /// A run's memory size in pages, and which way its peer may use it.
    public func run(_ id: RunID) -> (pages: Int, access: GrantAccess)? { runs[id].map { ($0.pageCount, $0.access) } }
}
