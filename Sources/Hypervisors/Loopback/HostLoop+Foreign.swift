// What programs of Xen's libraries ask for beside the drivers' requests: notices of ends, virtual interrupts, foreign
// frames, lists of domains and ports.

import Glibc
import HypervisorRules
import LinuxSystem
import SharedMemory
import XenTypes

/// A byte of a run's memory that becomes zero at an end.
///
/// The daemon may write a run through its own descriptor as long as it is not sealed; of one that is about to be, it
/// keeps a mapping of the one page.
final class HostedByte: EndByte {
    private enum Way {
        case descriptor(SealedMemory)
        case mapping(SharedRegion)
    }
    private let way: Way
    private let offset: Int

    /// - Parameters:
    ///   - offset: the byte's place in the run.
    ///   - willBeSealed: whether the run's owner will forbid further writers.
    init(_ memory: SealedMemory, offset: Int, willBeSealed: Bool) throws(Errno) {
        let page = offset / SharedRegion.pageSize * SharedRegion.pageSize
        if willBeSealed {
            way = .mapping(
                try SharedRegion(mapping: memory.descriptor, offset: page, byteCount: SharedRegion.pageSize, writable: true))
            self.offset = offset - page
        } else {
            way = .descriptor(memory)
            self.offset = offset
        }
    }

    func clear() {
        switch way {
        case .descriptor(let memory): memory.clearByte(at: offset)
        case .mapping(let region): region.store(UInt8(0), at: offset)
        }
    }
}

extension HostLoop {
    // MARK: Ends

    func noticeUnmap(_ handle: UInt32, _ order: EndOrder, _ connection: ConnectionID) throws(Refused) -> Reply {
        let mapping = try allowed { () throws(CoreError) in try core.mapping(handle, by: connection) }
        // One that may write is of a run that is not sealed.
        if order.byte != nil && !mapping.isWriting { throw Refused(.notWritable) }
        let byte = try byte(order, of: mapping.run, page: mapping.page, willBeSealed: false)
        try allowed { () throws(CoreError) in
            try core.noticeEnd(ofMapping: handle, byte: byte, port: order.port, by: connection)
        }
        return (.done, [])
    }

    func noticeRetire(
        _ run: RunID, _ page: UInt32, _ order: EndOrder, _ connection: ConnectionID
    ) throws(Refused) -> Reply {
        let known = try allowed { () throws(CoreError) in try core.ownRun(run, by: connection) }
        guard Int(page) < known.pages else { throw Refused(.badCount(page)) }
        // Nobody, and so the daemon neither, gets at the pages for writing once they are sealed.
        if order.byte != nil && known.access == .readOnly && known.isArmed { throw Refused(.notWritable) }
        let byte = try byte(order, of: run, page: Int(page), willBeSealed: known.access == .readOnly)
        try allowed { () throws(CoreError) in
            try core.noticeEnd(ofRun: run, byte: byte, port: order.port, by: connection)
        }
        return (.done, [])
    }

    private func byte(
        _ order: EndOrder, of run: RunID, page: Int, willBeSealed: Bool
    ) throws(Refused) -> HostedByte? {
        guard let place = order.byte else { return nil }
        guard let memory = runs[run]?.memory else { throw Refused(.noSuchRun) }
        return try made { () throws(Errno) in
            try HostedByte(memory, offset: page * SharedRegion.pageSize + Int(place), willBeSealed: willBeSealed)
        }
    }

    // MARK: Virtual interrupts

    func bindVirtual(_ interrupt: VirtualInterrupt, _ connection: ConnectionID) throws(Refused) -> Reply {
        let pipe = try made { () throws(Errno) in try WakePipe() }
        let port = try allowed { () throws(CoreError) in try core.bindVirtual(interrupt, by: connection) }
        bells[port.id] = HostedBell(writer: pipe.writer, owner: connection)
        return (.port(port.id, port.port), [pipe.reader])
    }

    // MARK: Domain 0's view of the others

    func portStatus(of domain: DomainID, _ port: EventPort, for asker: DomainID) throws(Refused) -> Reply {
        guard asker == .zero || asker == domain else { throw Refused(.notAllowed) }
        guard core.exists(domain) else { throw Refused(.noSuchDomain(domain)) }
        guard let status = core.status(of: port, in: domain) else { throw Refused(.port(port, "EINVAL")) }
        return (.portStatus(status), [])
    }

    func describeDomains(from first: DomainID, for asker: DomainID) throws(Refused) -> Reply {
        guard asker == .zero else { throw Refused(.notAllowed) }
        let domains = core.domainIDs.lazy.filter { $0.rawValue >= first.rawValue }.prefix(DomainDescription.mostAtOnce)
        return (.described(domains.map(describe)), [])
    }

    /// What the rules and the store know of a domain.
    private func describe(_ domain: DomainID) -> DomainDescription {
        DomainDescription(
            domain: domain, pages: UInt32(clamping: core.pages(of: domain)),
            isTranslated: store.value(at: "/libxl/\(domain)/type") == "pvh",
            uuid: .init(path: store.value(at: "/local/domain/\(domain)/vm") ?? ""))
    }

    // MARK: The store

    /// Where the programs of one domain find the store.
    func storePath(of domain: DomainID) -> String { LoopbackHost.storePath(in: runDirectory, domain: domain) }

    /// A socket of the domain's own, for programs that can only be told a path. A directory whose name is too long for
    /// that has none; whoever needs it says so.
    func openStore(of domain: DomainID, user: UInt32?) {
        let path = storePath(of: domain)
        for directory in ["\(runDirectory)/domain", "\(runDirectory)/domain/\(domain)"] {
            FileSystem.makeDirectory(directory, mode: 0o755)
        }
        try? store.listen(onPath: path, domain: domain, user: user, mostConnections: core.limits.connections)
    }

    func closeStore(of domain: DomainID) {
        store.stopListening(onPath: storePath(of: domain))
        FileSystem.removeDirectory("\(runDirectory)/domain/\(domain)")
    }
}
