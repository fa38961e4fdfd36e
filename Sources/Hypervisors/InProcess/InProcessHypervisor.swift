// One process's view of the in-process host.

import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import XenStore
import XenTypes

/// A connection of one domain. Gone, with all that it holds, when released or when `disconnect` is called.
public final class InProcessHypervisor: Hypervisor {
    /// See `Hypervisor.domain`.
    public let domain: DomainID
    /// See `Hypervisor.time`.
    public var time: any TimeSource { host.time }
    let host: InProcessHost
    let connection: ConnectionID

    init(host: InProcessHost, domain: DomainID, connection: ConnectionID) {
        self.host = host
        self.domain = domain
        self.connection = connection
    }

    deinit { disconnect() }

    /// What `kill -9` does: the host releases everything of this connection at once. Further calls fail.
    public func disconnect() { host.close(connection) }

    /// See `Hypervisor.connectStore`.
    public func connectStore() throws(HypervisorError) -> StoreClient {
        do throws(StoreError) {
            return try host.hasThread
                ? host.store.connectInProcess(domain: domain) : host.store.connectOnCallersThread(domain: domain)
        } catch {
            throw .disconnected("the store: \(error)")
        }
    }

    // MARK: Offering

    /// See `Hypervisor.offerPages`.
    public func offerPages(
        _ count: Int, to peer: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> any OfferedPages {
        try host.run { state throws(HypervisorError) in
            let run = try translate(peer) { () throws(CoreError) in
                try state.core.makeRun(pages: count, to: peer, access: access, by: connection)
            }
            var table = state.tables[connection] ?? GranterTable()
            defer { state.tables[connection] = table }
            do throws(HypervisorError) {
                let memory = try system("making a run") { () throws(Errno) in try RunMemory(pages: count, access: access) }
                try translate(peer) { () throws(CoreError) in try state.core.armRun(run.id, by: connection) }
                while table.freeCount < count { try addTableFrame(to: &table, &state) }
                guard
                    let references = table.offer(count: count, firstFrame: run.firstFrame, to: peer, access: access)
                else { throw .exhausted("grant references") }
                state.memory[run.id] = memory
                return InProcessOffer(self, run: run.id, region: memory.granterView, references: references)
            } catch {
                _ = try? state.core.retireRun(run.id, by: connection)
                throw error
            }
        }
    }

    private func addTableFrame(to table: inout GranterTable, _ state: inout HostState) throws(HypervisorError) {
        let page = try system("making a page of the grant table") { () throws(Errno) in
            try SharedRegion(anonymous: SharedRegion.pageSize)
        }
        let frame = SharedGrantTableFrame(page)
        let index = try translate(domain) { () throws(CoreError) in try state.core.addTableFrame(frame, by: connection) }
        table.add(frame, index: index)
    }

    // MARK: Mapping

    /// See `Hypervisor.grantRoom`.
    public func grantRoom() -> GrantRoom? {
        host.run { state in
            state.core.usage(of: domain).map {
                GrantRoom(limit: state.core.limits.maptrack, used: $0.mappings, setting: "maptrack")
            }
        }
    }

    /// See `Hypervisor.mapGrants`.
    public func mapGrants(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> [MappedGrant] {
        try host.run { state throws(HypervisorError) in try map(references, of: granter, access, &state).map(\.grant) }
    }

    /// See `Hypervisor.unmapGrants`.
    public func unmapGrants(_ grants: [MappedGrant]) {
        host.run { state in unmap(grants, &state) }
    }

    /// See `Hypervisor.mapContiguous`.
    public func mapContiguous(
        _ references: [GrantReference], of granter: DomainID, access: GrantAccess
    ) throws(HypervisorError) -> any ContiguousGrants {
        guard !references.isEmpty else { throw .exhausted("no references to map") }
        return try host.run { state throws(HypervisorError) in
            let mapped = try map(references, of: granter, access, &state)
            do throws(HypervisorError) {
                let region = try system("mapping side by side") { () throws(Errno) in
                    try SharedRegion(
                        contiguous: mapped.map { ($0.memory.memory.descriptor, $0.grant.offset) },
                        writable: access == .readWrite)
                }
                return InProcessContiguous(self, region: region, grants: mapped.map(\.grant))
            } catch {
                unmap(mapped.map(\.grant), &state)
                throw error
            }
        }
    }

    private func map(
        _ references: [GrantReference], of granter: DomainID, _ access: GrantAccess, _ state: inout HostState
    ) throws(HypervisorError) -> [(grant: MappedGrant, memory: RunMemory)] {
        var mapped: [(grant: MappedGrant, memory: RunMemory)] = []
        for reference in references {
            do throws(GrantStatus) {
                mapped.append(try mapOne(reference, of: granter, access, &state))
            } catch {
                unmap(mapped.map(\.grant), &state)
                throw .grantRefused(reference, of: granter, error)
            }
        }
        return mapped
    }

    func mapOne(
        _ reference: GrantReference, of granter: DomainID, _ access: GrantAccess, _ state: inout HostState
    ) throws(GrantStatus) -> (grant: MappedGrant, memory: RunMemory) {
        if let fault = state.faultOfNextMap() { throw fault }
        let mapping = try state.core.map(reference, of: granter, access: access, by: connection)
        guard let memory = state.memory[mapping.run] else {
            try state.core.unmap(mapping.handle, reference, of: granter, by: connection)
            throw .badPage
        }
        let machine = state.core.machineRun(mapping.run)
        let grant = MappedGrant(
            handle: mapping.handle, region: memory.mapperView, offset: mapping.page * SharedRegion.pageSize,
            reference: reference, granter: granter, machine: machine?.finder)
        return (grant, memory)
    }

    func unmap(_ grants: [MappedGrant], _ state: inout HostState) {
        for grant in grants {
            try? state.core.unmap(grant.handle, grant.reference, of: grant.granter, by: connection)
        }
    }

    // MARK: Event channels

    /// See `Hypervisor.allocateChannel`.
    public func allocateChannel(for remote: DomainID) throws(HypervisorError) -> any EventChannel {
        try makeChannel(remote, EventPort(0)) { state throws(CoreError) in
            try state.core.allocatePort(for: remote, by: self.connection)
        }
    }

    /// See `Hypervisor.bindChannel`.
    public func bindChannel(remote: DomainID, port: EventPort) throws(HypervisorError) -> any EventChannel {
        try makeChannel(remote, port) { state throws(CoreError) in
            try state.core.bindPort(remote: remote, port: port, by: self.connection)
        }
    }

    private func makeChannel(
        _ remote: DomainID, _ port: EventPort, _ make: (inout HostState) throws(CoreError) -> NewPort
    ) throws(HypervisorError) -> InProcessChannel {
        let bell = try system("making a pipe") { () throws(Errno) in try WakePipe() }
        return try host.run { state throws(HypervisorError) in
            let new = try translate(remote) { () throws(CoreError) in try make(&state) }
            state.bells[new.id] = bell
            return InProcessChannel(self, port: new.port, bell: bell)
        }
    }
}

/// The rules' refusals in the words of the drivers' contract.
func translate<R>(_ peer: DomainID, _ body: () throws(CoreError) -> R) throws(HypervisorError) -> R {
    do throws(CoreError) { return try body() } catch {
        switch error {
        case .noSuchConnection: throw .disconnected("this connection is closed")
        case .noSuchDomain(let domain): throw .noSuchDomain(domain)
        case .port(let port, let reason): throw .portRefused(port, of: peer, reason: reason)
        case .limit(let what, let size): throw .exhausted("\(what), of which a domain has at most \(size)")
        case .badCount(let count): throw .exhausted("a run of \(count) pages")
        case .noSuchRun, .domainBusy, .noSuchMapping, .notWritable, .virqTaken:
            throw .disconnected("the host's state is not what this side believes")
        }
    }
}

func system<R>(_ doing: String, _ body: () throws(Errno) -> R) throws(HypervisorError) -> R {
    do throws(Errno) { return try body() } catch { throw .system(error.description, doing: doing) }
}
