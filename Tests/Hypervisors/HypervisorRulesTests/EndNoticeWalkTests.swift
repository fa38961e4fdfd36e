// Domains that map, share, ask for notices, close and die in every order: what was asked for is done once, in time, and
// nothing is left (attacks.md GT34).

import HypervisorRules
import Testing
import TestSupport
import XenTypes

private final class CountedByte: EndByte {
    var clears = 0
    /// Whether the page was still somebody's when it was cleared.
    var isHeld: () -> Bool = { true }
    var wasHeld = true
    func clear() {
        clears += 1
        wasHeld = wasHeld && isHeld()
    }
}

private struct EndNoticeWalk {
    let core = HypervisorCore()
    var random: SplitMix
    var connections: [[ConnectionID]] = [[], [], []]
    var tables: [ConnectionID: (frame: ScriptedFrame, index: Int, next: Int)] = [:]
    var grants: [(granter: Int, reference: GrantReference, run: RunID)] = []
    var runs: [(owner: ConnectionID, id: RunID)] = []
    var mappings: [(by: ConnectionID, granter: Int, reference: GrantReference, handle: UInt32, run: RunID)] = []
    var ports: [(by: ConnectionID, port: EventPort)] = []
    /// The last byte that each subject was given, and those that were replaced.
    var mapped: [Held: CountedByte] = [:]
    struct Held: Hashable { var by: ConnectionID, handle: UInt32 }
    var shared: [RunID: CountedByte] = [:]
    var replaced: [CountedByte] = []
    var given: [CountedByte] = []

    init(seed: UInt64) throws {
        random = SplitMix(seed)
        for number in UInt16(0)...2 { _ = try core.createDomain(DomainID(number)) }
        for domain in 0...2 { try connect(domain) }
    }

    mutating func connect(_ domain: Int) throws {
        let id = try core.connect(DomainID(UInt16(domain)))
        let frame = ScriptedFrame()
        tables[id] = (frame, try core.addTableFrame(frame, by: id), 8)
        connections[domain].append(id)
    }

    private mutating func pick() -> (domain: Int, id: ConnectionID)? {
        let domain = Int.random(in: 0...2, using: &random)
        return connections[domain].randomElement(using: &random).map { (domain, $0) }
    }

    mutating func step() throws {
        guard let (domain, id) = pick() else { return try connect(Int.random(in: 0...2, using: &random)) }
        switch Int.random(in: 0..<12, using: &random) {
        case 0, 1: share(domain, id)
        case 2, 3: map(domain, id)
        case 4, 5: noticeMapping(id)
        case 6: noticeRun(id)
        case 7: channel(domain, id)
        case 8: unmap(id)
        case 9: retire(id)
        case 10:
            if let index = ports.firstIndex(where: { $0.by == id }) { try? core.closePort(ports.remove(at: index).port, by: id) }
        default: kill(domain, id)
        }
        if Bool.random(using: &random) { _ = core.reap(budget: Int.random(in: 1...3, using: &random)) }
    }

    private mutating func share(_ domain: Int, _ id: ConnectionID) {
        let peer = (domain + Int.random(in: 1...2, using: &random)) % 3
        guard let run = try? core.makeRun(pages: 1, to: DomainID(UInt16(peer)), access: .readWrite, by: id),
            var table = tables[id], table.next < 500
        else { return }
        table.frame.grant(table.next, .permitAccess, to: UInt16(peer), frame: run.firstFrame)
        grants.append((domain, GrantReference(UInt32(table.index * grantsPerTableFrame + table.next)), run.id))
        table.next += 1
        tables[id] = table
        runs.append((id, run.id))
    }

    private mutating func map(_ domain: Int, _ id: ConnectionID) {
        guard let grant = grants.randomElement(using: &random),
            let mapping = try? core.map(grant.reference, of: DomainID(UInt16(grant.granter)), access: .readWrite, by: id)
        else { return }
        mappings.append((id, grant.granter, grant.reference, mapping.handle, mapping.run))
    }

    private mutating func byte(heldIn run: RunID) -> CountedByte {
        let byte = CountedByte()
        let core = core
        byte.isHeld = { core.run(run) != nil }
        return byte
    }

    private mutating func noticeMapping(_ id: ConnectionID) {
        guard let mapping = mappings.filter({ $0.by == id }).randomElement(using: &random) else { return }
        let byte = byte(heldIn: mapping.run)
        let port = ports.first { $0.by == id }?.port
        guard (try? core.noticeEnd(ofMapping: mapping.handle, byte: byte, port: port, by: id)) != nil else { return }
        given.append(byte)
        if let old = mapped.updateValue(byte, forKey: Held(by: id, handle: mapping.handle)) { replaced.append(old) }
    }

    private mutating func noticeRun(_ id: ConnectionID) {
        guard let run = runs.filter({ $0.owner == id }).randomElement(using: &random) else { return }
        let byte = byte(heldIn: run.id)
        guard (try? core.noticeEnd(ofRun: run.id, byte: byte, port: ports.first { $0.by == id }?.port, by: id)) != nil else {
            return
        }
        given.append(byte)
        if let old = shared.updateValue(byte, forKey: run.id) { replaced.append(old) }
    }

    private mutating func channel(_ domain: Int, _ id: ConnectionID) {
        let peer = (domain + 1) % 3
        guard let other = connections[peer].randomElement(using: &random),
            let port = try? core.allocatePort(for: DomainID(UInt16(peer)), by: id)
        else { return }
        ports.append((id, port.port))
        guard let bound = try? core.bindPort(remote: DomainID(UInt16(domain)), port: port.port, by: other) else { return }
        ports.append((other, bound.port))
    }

    private mutating func unmap(_ id: ConnectionID) {
        guard let index = mappings.firstIndex(where: { $0.by == id }) else { return }
        let mapping = mappings.remove(at: index)
        let granter = DomainID(UInt16(mapping.granter))
        #expect(throws: Never.self) { try core.unmap(mapping.handle, mapping.reference, of: granter, by: id) }
        if let byte = mapped.removeValue(forKey: Held(by: id, handle: mapping.handle)) { #expect(byte.clears == 1) }
    }

    private mutating func retire(_ id: ConnectionID) {
        guard let index = runs.firstIndex(where: { $0.owner == id }) else { return }
        let run = runs.remove(at: index).id
        _ = try? core.retireRun(run, by: id)
        if let byte = shared.removeValue(forKey: run) { #expect(byte.clears == 1) }
    }

    private mutating func kill(_ domain: Int, _ id: ConnectionID) {
        core.close(id)
        connections[domain].removeAll { $0 == id }
        // From now on only its death does anything of it; what was asked for stays in `given`.
        mappings.removeAll { $0.by == id }
        runs.removeAll { $0.owner == id }
        ports.removeAll { $0.by == id }
        mapped = mapped.filter { $0.key.by != id }
    }

    mutating func finish() {
        for domain in 0...2 { for id in connections[domain] { kill(domain, id) } }
        while core.reap(budget: 3) {}
        let usage = core.usage
        #expect(usage.mappings == 0 && usage.ports == 0 && usage.runs == 0 && usage.deferred == 0 && usage.connections == 0)
        #expect(given.allSatisfy { $0.clears <= 1 && $0.wasHeld })
        #expect(replaced.allSatisfy { $0.clears == 0 })
        let late = given.filter { byte in byte.clears == 0 && !replaced.contains { $0 === byte } }
        #expect(late.isEmpty, "\(late.count) of \(given.count) were never cleared")
    }
}

@Suite struct EndNoticeWalkTests {
    @Test(arguments: 0..<32) func GT34_inEveryOrderEachNoticeIsCarriedOutOnceAndNothingIsLeft(seed: Int) throws {
        var walk = try EndNoticeWalk(seed: UInt64(seed))
        for _ in 0..<400 { try walk.step() }
        walk.finish()
        #expect(walk.given.count > 10)
    }
}
