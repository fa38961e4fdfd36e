// Each request's answer. All or nothing: what was begun is undone before a refusal.

import Glibc
import HypervisorRules
import LinuxSystem
import SharedMemory
import XenTypes

typealias Reply = (answer: Answer, descriptors: [Descriptor])

/// Carries a refusal out of the middle of an operation.
struct Refused: Error, CustomStringConvertible {
    let why: Refusal
    var description: String { "\(why)" }
    init(_ why: Refusal) { self.why = why }
}

extension HostLoop {
    func answer(_ request: Request, from peer: HostPeer) -> Reply {
        do throws(Refused) {
            if case .hello(let role) = request { return try hello(role, peer) }
            switch peer.standing {
            case .greeting: throw Refused(.notAllowed)
            case .control: return try control(request)
            case .domain(let connection, let domain): return try serve(request, connection, domain, peer)
            }
        } catch {
            return (.refused(error.why), [])
        }
    }

    // MARK: Identity

    /// The socket decides: one that was handed over is its domain; for one that was accepted, the kernel says whose it
    /// is.
    private func hello(_ role: Role, _ peer: HostPeer) throws(Refused) -> Reply {
        guard peer.noticeSocket == nil else { throw Refused(.notAllowed) }
        let domain: DomainID
        switch (peer.standing, role) {
        case (.domain(_, let own), .given): domain = own
        case (.domain(_, let own), .domain(let asked)):
            guard asked == own else { throw Refused(.notAllowed) }
            domain = own
        case (.greeting(let user), .domain(let asked)):
            guard isOwn(user) || claims[asked] == user else { throw Refused(.notAllowed) }
            try haveRoom(2, for: asked)
            let connection = try allowed { () throws(CoreError) in try core.connect(asked) }
            peer.standing = .domain(connection, asked)
            byConnection[connection] = peer
            domain = asked
        case (.greeting(let user), .control):
            guard isOwn(user) else { throw Refused(.notAllowed) }
            peer.standing = .control
            domain = .zero
        default: throw Refused(.notAllowed)
        }
        let (mine, theirs) = try made { () throws(Errno) in
            let pair = try PacketSocket.pair()
            try pair.0.setNonBlocking(true)
            return pair
        }
        peer.noticeSocket = mine
        entriesAreStale = true
        return (.welcome(domain), [theirs])
    }

    private func isOwn(_ user: UInt32) -> Bool { user == 0 || user == geteuid() }

    // MARK: A domain's requests

    private func serve(
        _ request: Request, _ connection: ConnectionID, _ domain: DomainID, _ peer: HostPeer
    ) throws(Refused) -> Reply {
        switch request {
        case .makeRun: try haveRoom(2, for: domain)
        case .allocatePort, .bindPort, .bindVirtual: try haveRoom(1, for: domain)
        default: break
        }
        switch request {
        case .addTableFrame: return try addTableFrame(connection)
        case .makeRun(let pages, let to, let access): return try makeRun(Int(pages), to, access, connection)
        case .armRun(let run): return try armRun(run, connection)
        case .retireRun(let run):
            let atOnce = try allowed { () throws(CoreError) in try core.retireRun(run, by: connection) }
            return (.retired(atOnce: atOnce), [])
        case .map(let granter, let access, let references):
            return map(references, access, connection, peer) { (reference) throws(GrantStatus) in
                (try core.map(reference, of: granter, access: access, by: connection), reference, granter)
            }
        case .mapForeign(let owner, let access, let frames):
            return map(frames, access, connection, peer) { (frame) throws(GrantStatus) in
                (try core.mapForeign(frame, of: owner, access: access, by: connection), GrantReference(frame), owner)
            }
        case .noticeUnmap(let handle, let order): return try noticeUnmap(handle, order, connection)
        case .noticeRetire(let run, let page, let order): return try noticeRetire(run, page, order, connection)
        case .bindVirtual(let interrupt): return try bindVirtual(interrupt, connection)
        case .portStatus(let owner, let port): return try portStatus(of: owner, port, for: domain)
        case .describeDomains(let first): return try describeDomains(from: first, for: domain)
        // A toolstack's hypercall, from its own domain.
        case .destroyDomain where domain == .zero: return try control(request)
        case .unmap(let items): return (.unmapped(items.map { unmap($0, connection) }), [])
        case .allocatePort(let remote): return try allocatePort(remote, connection)
        case .bindPort(let remote, let port): return try bindPort(remote, port, connection)
        case .closePort(let port):
            try allowed { () throws(CoreError) in try core.closePort(port, by: connection) }
            return (.done, [])
        case .connectStore: return try connectStore(domain)
        case .usage(domain?): return (.usage(core.usage(of: domain) ?? HypervisorUsage()), [])
        case .hello, .createDomain, .openDomain, .destroyDomain, .listDomains, .usage, .storeUsage: throw Refused(.notAllowed)
        }
    }

    /// Whether the daemon may open so many more descriptors for a domain.
    private func haveRoom(_ count: Int, for domain: DomainID) throws(Refused) {
        let has = core.descriptors(of: domain)
        guard domain == .zero || has + count <= core.limits.descriptors,
            shares.allows(count, for: domain, has: has, inUse: core.descriptors)
        else { throw Refused(.limit("descriptors", UInt32(clamping: has))) }
    }

    private func addTableFrame(_ connection: ConnectionID) throws(Refused) -> Reply {
        let (memory, region) = try made { () throws(Errno) in
            let memory = try SealedMemory("causeway-grant-table", byteCount: SharedRegion.pageSize, final: true)
            return (
                memory, try SharedRegion(mapping: memory.descriptor, byteCount: memory.byteCount, writable: true)
            )
        }
        let index = try allowed { () throws(CoreError) in
            try core.addTableFrame(SharedGrantTableFrame(region), by: connection)
        }
        return (.tableFrame(index: UInt32(index)), [memory.descriptor])
    }

    private func makeRun(
        _ pages: Int, _ peer: DomainID, _ access: GrantAccess, _ connection: ConnectionID
    ) throws(Refused) -> Reply {
        let run = try allowed { () throws(CoreError) in
            try core.makeRun(pages: pages, to: peer, access: access, by: connection)
        }
        do throws(Refused) {
            let memory = try made { () throws(Errno) in
                // A read-only run gets its last seals when its owner has mapped it.
                try SealedMemory("causeway-run", byteCount: pages * SharedRegion.pageSize, final: access == .readWrite)
            }
            runs[run.id] = HostedRun(memory: memory, access: access)
            return (.run(run), [memory.descriptor])
        } catch {
            _ = try? core.retireRun(run.id, by: connection)
            throw error
        }
    }

    private func armRun(_ id: RunID, _ connection: ConnectionID) throws(Refused) -> Reply {
        guard let run = runs[id], run.access == .readOnly, run.readOnly == nil else { throw Refused(.noSuchRun) }
        // The rules first, for they know whose it is; nobody can map it before this answer is out.
        try allowed { () throws(CoreError) in try core.armRun(id, by: connection) }
        do throws(Errno) {
            try run.memory.forbidFurtherWriters()
            runs[id]?.readOnly = try run.memory.readOnlyDescriptor()
        } catch {
            _ = try? core.retireRun(id, by: connection)
            throw Refused(.system(error.description))
        }
        return (.done, [])
    }

    /// Grants that are mapped for one message.
    private static let mostMapped = 256

    /// Maps one by one; `one` says how, and under what it is to be unmapped. Inlined, so that each way is code of its
    /// own: a call through a closure for each grant shows in a batch.
    @inline(__always)
    private func map<Item>(
        _ items: [Item], _ access: GrantAccess, _ connection: ConnectionID, _ peer: HostPeer,
        _ one: (Item) throws(GrantStatus) -> (Mapping, GrantReference, DomainID)
    ) -> Reply {
        var results: [MapResult] = []
        results.reserveCapacity(items.count)
        var announcements: [RunAnnouncement] = []
        var descriptors: [Descriptor] = []
        for item in items {
            // The rest is for the next message; others want to be answered, too.
            if descriptors.count == PacketSocket.mostDescriptors || results.count == Self.mostMapped { break }
            do throws(GrantStatus) {
                let (mapping, reference, granter) = try one(item)
                let given: Descriptor?
                do throws(GrantStatus) { given = try give(mapping.run, access, to: connection, peer) } catch {
                    try core.unmap(mapping.handle, reference, of: granter, by: connection)
                    throw error
                }
                if let given, let machine = core.machineRun(mapping.run) {
                    descriptors.append(given)
                    announcements.append(
                        RunAnnouncement(run: mapping.run, pages: UInt32(core.run(mapping.run)?.pages ?? 0), machine: machine))
                }
                results.append(
                    MapResult(status: .okay, handle: mapping.handle, run: mapping.run, page: UInt32(mapping.page)))
            } catch {
                results.append(MapResult(status: error))
            }
        }
        return (.mapped(results, announcements), descriptors)
    }

    /// The descriptor to pass if this connection has not had the run in this direction. A map for reading gets one that
    /// can only read, whatever the run allows.
    /// - Throws: `tryAgain` if there is no descriptor for it.
    private func give(
        _ id: RunID, _ access: GrantAccess, to connection: ConnectionID, _ peer: HostPeer
    ) throws(GrantStatus) -> Descriptor? {
        let bit: UInt8 = access == .readOnly ? 1 : 2
        let had = peer.given[id] ?? 0
        if had & bit != 0 { return nil }
        let descriptor: Descriptor?
        if access == .readWrite {
            descriptor = runs[id]?.memory.descriptor
        } else {
            let opened = runs[id]?.readOnly
            descriptor = if let opened { opened } else { try? runs[id]?.memory.readOnlyDescriptor() }
            runs[id]?.readOnly = descriptor
        }
        guard let descriptor else { throw .tryAgain }
        peer.given[id] = had | bit
        runs[id]?.givenTo.insert(connection)
        return descriptor
    }

    private func unmap(_ item: UnmapRequest, _ connection: ConnectionID) -> GrantStatus {
        do throws(GrantStatus) {
            try core.unmap(item.handle, item.reference, of: item.granter, by: connection)
            return .okay
        } catch { return error }
    }

    private func allocatePort(_ remote: DomainID, _ connection: ConnectionID) throws(Refused) -> Reply {
        let pipe = try made { () throws(Errno) in try WakePipe() }
        let port = try allowed { () throws(CoreError) in try core.allocatePort(for: remote, by: connection) }
        bells[port.id] = HostedBell(writer: pipe.writer, owner: connection)
        return (.port(port.id, port.port), [pipe.reader])
    }

    /// Each bind gets a bell of its own, so that what an earlier peer still holds cannot eat the new one's events.
    private func bindPort(_ remote: DomainID, _ number: EventPort, _ connection: ConnectionID) throws(Refused) -> Reply {
        let pipe = try made { () throws(Errno) in try WakePipe() }
        let port = try allowed { () throws(CoreError) in try core.bindPort(remote: remote, port: number, by: connection) }
        bells[port.id] = HostedBell(writer: pipe.writer, owner: connection)
        guard let peer = port.peer, let bell = bells[peer] else {
            _ = try? core.closePort(port.port, by: connection)
            throw Refused(.port(number, "EINVAL"))
        }
        notify(bell.owner, .portBound(peer), [pipe.writer])
        return (.port(port.id, port.port), [pipe.reader, bell.writer])
    }

    private func connectStore(_ domain: DomainID) throws(Refused) -> Reply {
        // A tool of domain 0 may be one of many; a guest needs few.
        let has = store.usage(of: domain).connections
        guard domain == .zero || has < core.limits.connections, store.hasRoom(for: domain) else {
            throw Refused(.limit("store connections", UInt32(clamping: has)))
        }
        let (mine, theirs) = try made { () throws(Errno) in try StreamSocket.pair() }
        do throws(Errno) { try mine.setNonBlocking(true) } catch { throw Refused(.system(error.description)) }
        store.attach(descriptor: mine, domain: domain)
        return (.done, [theirs])
    }

    // MARK: The toolstack's requests

    private func control(_ request: Request) throws(Refused) -> Reply {
        switch request {
        case .createDomain(let id, let user, let lifetime): return try createDomain(id, user, lifetime)
        case .openDomain(let id):
            return (.domain(id), [try openDomain(id, ends: false)])
        case .destroyDomain(let id):
            guard id != .zero else { throw Refused(.notAllowed) }
            guard core.exists(id) else { throw Refused(.noSuchDomain(id)) }
            destroy(id)
            return (.done, [])
        case .listDomains: return (.domains(Array(core.domainIDs.prefix(8192))), [])
        case .usage(nil): return (.usage(core.usage), [])
        case .storeUsage(let id):
            if let id, !core.exists(id) { throw Refused(.noSuchDomain(id)) }
            return (.storeUsage(LoopbackStoreUsage(id.map { store.usage(of: $0) } ?? store.usage())), [])
        case .usage(let id?):
            guard let usage = core.usage(of: id) else { throw Refused(.noSuchDomain(id)) }
            return (.usage(usage), [])
        default: throw Refused(.notAllowed)
        }
    }

    private func createDomain(_ id: DomainID?, _ user: UInt32?, _ lifetime: DomainLifetime) throws(Refused) -> Reply {
        let domain = try allowed { () throws(CoreError) in try core.createDomain(id) }
        do throws(Refused) {
            let socket = try openDomain(domain, ends: lifetime == .withSocket)
            claims[domain] = user
            openStore(of: domain, user: user)
            store.introduceDomain(domain)
            return (.domain(domain), [socket])
        } catch {
            destroy(domain)
            throw error
        }
    }

    /// A connected socket that is `id`'s from the start.
    private func openDomain(_ id: DomainID, ends: Bool) throws(Refused) -> Descriptor {
        let (mine, theirs) = try made { () throws(Errno) in
            let pair = try PacketSocket.pair()
            try pair.0.setNonBlocking(true)
            return pair
        }
        try haveRoom(2, for: id)
        let connection = try allowed { () throws(CoreError) in try core.connect(id) }
        let peer = HostPeer(socket: mine, standing: .domain(connection, id))
        if ends { peer.endsDomain = id }
        add(peer)
        return theirs
    }

    // MARK: Errors

    func allowed<R>(_ body: () throws(CoreError) -> R) throws(Refused) -> R {
        do throws(CoreError) { return try body() } catch { throw Refused(Refusal(error)) }
    }

    func made<R>(_ body: () throws(Errno) -> R) throws(Refused) -> R {
        do throws(Errno) { return try body() } catch { throw Refused(.system(error.description)) }
    }
}
