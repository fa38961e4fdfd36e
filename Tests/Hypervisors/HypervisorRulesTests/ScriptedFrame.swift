// A page of the grant table whose owner is a test: entries in private memory, and a say in what happens between the
// hypervisor's load and its exchange.

import HypervisorRules
import XenTypes

final class ScriptedFrame: GrantTableFrame {
    private(set) var headers = [GrantHeader](repeating: GrantHeader(word: 0), count: grantsPerTableFrame)
    private var frames = [UInt32](repeating: 0, count: grantsPerTableFrame)
    /// Called before each exchange, with the slot: the granter's chance to change the entry.
    var beforeExchange: ((ScriptedFrame, Int) -> Void)?
    /// Called before the frame number is loaded.
    var beforeFrame: ((ScriptedFrame, Int) -> Void)?
    private(set) var exchanges = 0

    func header(_ slot: Int) -> GrantHeader { headers[slot] }
    func frame(_ slot: Int) -> UInt32 {
        beforeFrame?(self, slot)
        return frames[slot]
    }
    func exchange(_ slot: Int, expected: GrantHeader, desired: GrantHeader) -> GrantHeader {
        exchanges += 1
        beforeExchange?(self, slot)
        let found = headers[slot]
        if found == expected { headers[slot] = desired }
        return found
    }
    func clear(_ slot: Int, _ flags: GrantFlags) { headers[slot].flags.subtract(flags) }
    func write(_ slot: Int, _ header: GrantHeader, frame: UInt32) {
        frames[slot] = frame
        headers[slot] = header
    }

    /// An entry as a granter writes it.
    func grant(_ slot: Int, _ flags: GrantFlags, to domain: UInt16, frame: UInt32) {
        write(slot, GrantHeader(flags: flags, domain: DomainID(domain)), frame: frame)
    }
}

/// Domain 1 with a page of its table and a run of memory for domain 0, which has a connection: what most tests start
/// from.
struct TwoDomains {
    let core: HypervisorCore
    let granter: ConnectionID
    let mapper: ConnectionID
    let table = ScriptedFrame()
    let run: NewRun

    init(limits: HypervisorLimits = HypervisorLimits(), pages: Int = 8, access: GrantAccess = .readWrite) throws {
        core = HypervisorCore(limits: limits)
        _ = try core.createDomain(.zero)
        _ = try core.createDomain(DomainID(1))
        granter = try core.connect(DomainID(1))
        mapper = try core.connect(.zero)
        _ = try core.addTableFrame(table, by: granter)
        run = try core.makeRun(pages: pages, to: .zero, access: access, by: granter)
        try core.armRun(run.id, by: granter)
    }

    /// Offers page `page` of the run under `reference`.
    func grant(_ reference: Int, page: UInt32 = 0, _ flags: GrantFlags = .permitAccess) {
        table.grant(reference, flags, to: 0, frame: run.firstFrame + page)
    }

    func map(_ reference: UInt32, _ access: GrantAccess = .readWrite) -> Result<Mapping, GrantStatus> {
        Result { () throws(GrantStatus) in try core.map(GrantReference(reference), of: DomainID(1), access: access, by: mapper) }
    }

    func unmap(_ mapping: Mapping, _ reference: UInt32) throws(GrantStatus) {
        try core.unmap(mapping.handle, GrantReference(reference), of: DomainID(1), by: mapper)
    }

    func flags(_ reference: Int) -> GrantFlags { table.header(reference).flags }
}

extension Result where Failure == GrantStatus {
    var status: GrantStatus {
        if case .failure(let status) = self { status } else { .okay }
    }
}
