// Random operations of three domains with two processes each, against the slow model: after each step the answers, the
// in-use bits of every entry, and everything that is counted must agree. A failing seed is printed with its step.

import HypervisorRules
import Testing
import TestSupport
import XenTypes

/// The core and the model side by side.
struct ModelRun {
    let core = HypervisorCore()
    var model = SlowModel()
    var random: SplitMix
    var connections: [ConnectionID] = []
    var runIDs: [RunID] = []
    var portIDs: [PortID] = []
    /// Each process's page of its domain's table, and its number.
    var tables: [(frame: ScriptedFrame, index: Int)] = []
    var released: Set<RunID> = []

    init(seed: UInt64) throws {
        random = SplitMix(seed)
        for number in UInt16(0)..<3 { try createDomain(number) }
    }

    mutating func createDomain(_ number: UInt16) throws {
        _ = try core.createDomain(DomainID(number))
        model.lives[number] = model.nextLife
        model.tableOwners[model.nextLife] = []
        model.nextLife += 1
        try connect(number)
        try connect(number)
    }

    mutating func connect(_ number: UInt16) throws {
        let connection = try core.connect(DomainID(number))
        let frame = ScriptedFrame()
        let index = try core.addTableFrame(frame, by: connection)
        let life = try #require(model.lives[number])
        if index < model.tableOwners[life]!.count {
            model.tableOwners[life]![index] = connections.count
        } else {
            model.tableOwners[life]!.append(connections.count)
        }
        connections.append(connection)
        tables.append((frame, index))
        model.processes.append(.init(domain: number, life: life))
    }

    mutating func pick<C: RandomAccessCollection>(_ items: C) -> C.Element? { items.randomElement(using: &random) }

    mutating func step() throws {
        let process = pick(connections.indices)!
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<12: makeRun(process)
        case 12..<34: grant(process)
        case 34..<58: map(process)
        case 58..<76: unmap(process)
        case 76..<80: retire(process)
        case 80..<84: allocatePort(process)
        case 84..<88: bindPort(process)
        case 88..<92: notifyOrMask()
        case 92..<95: closePort()
        case 95..<97: try end(process)
        case 97..<98: try destroy()
        default: scribble(process)
        }
        try compare()
    }

    mutating func makeRun(_ process: Int) {
        let peer = UInt16.random(in: 0..<4, using: &random)
        let access: GrantAccess = Bool.random(using: &random) ? .readOnly : .readWrite
        let pages = Int.random(in: 1...4, using: &random)
        let run = try? core.makeRun(pages: pages, to: DomainID(peer), access: access, by: connections[process])
        let allowed = model.isUsable(process)
        #expect((run != nil) == allowed)
        guard let run else { return }
        _ = try? core.armRun(run.id, by: connections[process])
        runIDs.append(run.id)
        model.runs.append(
            .init(process: process, peer: peer, access: access, firstFrame: run.firstFrame, pages: pages))
    }

    /// A granter writes an entry that is not in use, sensibly or not.
    mutating func grant(_ process: Int) {
        let slot = Int.random(in: 6..<20, using: &random)
        guard tables[process].frame.header(slot).flags.isDisjoint(with: .inUse) else { return }
        var flags: GrantFlags = .permitAccess
        if Int.random(in: 0..<4, using: &random) == 0 { flags.insert(.readOnly) }
        if Int.random(in: 0..<12, using: &random) == 0 { flags = GrantFlags(rawValue: 3) }
        var peer = UInt16.random(in: 0..<3, using: &random)
        var frame = UInt32.random(in: 0x1000..<0x1020, using: &random)
        if let run = pick(model.runs.indices.filter { model.runs[$0].process == process }) {
            frame = model.runs[run].firstFrame + UInt32.random(in: 0..<UInt32(model.runs[run].pages), using: &random)
            if Int.random(in: 0..<8, using: &random) != 0 { peer = model.runs[run].peer }
        }
        tables[process].frame.grant(slot, flags, to: peer, frame: frame)
    }

    /// A granter writes over an entry in use, leaving its in-use bits: what it must not do, and can.
    mutating func scribble(_ process: Int) {
        let slot = Int.random(in: 8..<20, using: &random)
        let inUse = tables[process].frame.header(slot).flags.intersection(.inUse)
        tables[process].frame.grant(
            slot, inUse.union(.permitAccess), to: UInt16.random(in: 0..<3, using: &random),
            frame: UInt32.random(in: 0x1000..<0x1040, using: &random))
    }

    mutating func map(_ anyone: Int) {
        var process = anyone
        var granter = UInt16.random(in: 0..<4, using: &random)
        let access: GrantAccess = Bool.random(using: &random) ? .readOnly : .readWrite
        func pages(of granter: UInt16) -> [Int] {
            tables.indices.filter { model.processes[$0].domain == granter && model.processes[$0].life == model.lives[granter] }
        }
        var page = pick(pages(of: granter)).map { tables[$0].index } ?? 0
        var slotWanted = Int.random(in: 6..<20, using: &random)
        // Mostly something that is granted, by whom it is granted to.
        if Int.random(in: 0..<5, using: &random) != 0,
            let writer = pick(tables.indices.filter { model.isUsable($0) }),
            let slot = pick((8..<20).filter { tables[writer].frame.header($0).flags.contains(.permitAccess) }),
            let mapper = pick(
                tables.indices.filter {
                    model.isUsable($0) && model.processes[$0].domain == tables[writer].frame.header(slot).domain.rawValue
                })
        {
            (process, granter, page, slotWanted) = (mapper, model.processes[writer].domain, tables[writer].index, slot)
        }
        let candidates = pages(of: granter)
        let reference = UInt32(page * grantsPerTableFrame + slotWanted)
        let owner = candidates.first { tables[$0].index == page && model.isUsable($0) }
        let slot = Int(reference) % grantsPerTableFrame
        let entry = owner.map { (tables[$0].frame.header(slot), tables[$0].frame.frame(slot)) }
        let (status, run, place) = model.expectedMap(reference, of: granter, access, by: process, entry: entry)
        let result = Result { () throws(GrantStatus) in
            try core.map(GrantReference(reference), of: DomainID(granter), access: access, by: connections[process])
        }
        #expect(result.status == status)
        guard case .success(let mapping) = result, status == .okay else { return }
        #expect(mapping.run == runIDs[run] && mapping.page == place)
        model.held.append(
            .init(
                handle: mapping.handle, process: process, granterLife: model.lives[granter]!, reference: reference, run: run,
                page: place, writing: access == .readWrite))
    }

    mutating func unmap(_ process: Int) {
        guard let index = pick(model.held.indices) else { return }
        let held = model.held[index]
        // Now and then another process, of the same domain even.
        let siblings = model.processes.indices.filter { model.processes[$0].life == model.processes[held.process].life }
        let by =
            switch Int.random(in: 0..<10, using: &random) {
            case 0: process
            case 1: pick(siblings) ?? process
            default: held.process
            }
        let granter = model.processes.first { $0.life == held.granterLife }!.domain
        let result = Result { () throws(GrantStatus) in
            try core.unmap(held.handle, GrantReference(held.reference), of: DomainID(granter), by: connections[by])
        }
        // Handles are a domain's own numbers: another's may be the same, with the same reference of the same granter.
        let twin = model.held.firstIndex {
            $0.handle == held.handle && $0.process == by && $0.reference == held.reference
                && model.processes.first { [life = $0.granterLife] in $0.life == life }!.domain == granter
        }
        let expected: GrantStatus = !model.isUsable(by) ? .generalError : twin == nil ? .badHandle : .okay
        #expect(result.status == expected)
        if let twin, expected == .okay {
            model.held.remove(at: twin)
            model.releaseIdleRuns()
        }
    }

    mutating func retire(_ process: Int) {
        guard let index = pick(model.runs.indices) else { return }
        let run = model.runs[index]
        let allowed = run.process == process && model.isUsable(process) && !run.isRetired
        let ended = try? core.retireRun(runIDs[index], by: connections[process])
        #expect((ended != nil) == allowed)
        guard allowed else { return }
        model.runs[index].isRetired = true
        model.releaseIdleRuns()
        #expect(ended == model.runs[index].isReleased)
    }

    mutating func allocatePort(_ process: Int) {
        let remote = UInt16.random(in: 0..<3, using: &random)
        let port = try? core.allocatePort(for: DomainID(remote), by: connections[process])
        #expect((port != nil) == model.isUsable(process))
        if let port { add(port, process, remote, peer: nil) }
    }

    mutating func add(_ port: NewPort, _ process: Int, _ remote: UInt16, peer: Int?) {
        portIDs.append(port.id)
        model.ports.append(.init(process: process, number: port.port.rawValue, remote: remote, peer: peer, pending: peer != nil))
        if let peer { model.ports[peer].peer = model.ports.count - 1 }
    }

    mutating func bindPort(_ process: Int) {
        guard let target = pick(model.ports.indices) else { return }
        let other = model.ports[target]
        let remote = model.processes[other.process].domain
        let mine = model.processes[process].domain
        // Another open port of that domain may have the number by now.
        let actual = model.ports.firstIndex {
            $0.isOpen && $0.number == other.number && model.processes[$0.process].domain == remote
        }
        let allowed =
            model.isUsable(process) && model.lives[remote] != nil
            && actual.map { model.ports[$0].peer == nil && model.ports[$0].remote == mine } ?? false
        let port = try? core.bindPort(remote: DomainID(remote), port: EventPort(other.number), by: connections[process])
        #expect((port != nil) == allowed)
        if let port, let actual {
            #expect(port.peer == portIDs[actual])
            add(port, process, remote, peer: actual)
        }
    }

    mutating func notifyOrMask() {
        guard let index = pick(model.ports.indices.filter { model.ports[$0].isOpen }) else { return }
        let connection = connections[model.ports[index].process]
        let port = EventPort(model.ports[index].number)
        switch Int.random(in: 0..<4, using: &random) {
        case 0:
            #expect(throws: Never.self) { try core.notify(port, by: connection) }
            if let peer = model.ports[index].peer { model.ports[peer].pending = true }
        case 1:
            #expect(throws: Never.self) { try core.mask(port, by: connection) }
            model.ports[index].masked = true
        case 2:
            #expect(throws: Never.self) { try core.unmask(port, by: connection) }
            model.ports[index].masked = false
        default:
            #expect((try? core.takePending(port, by: connection)) == model.ports[index].pending)
            model.ports[index].pending = false
        }
    }

    mutating func closePort() {
        guard let index = pick(model.ports.indices.filter { model.ports[$0].isOpen }) else { return }
        #expect(throws: Never.self) {
            try core.closePort(EventPort(model.ports[index].number), by: connections[model.ports[index].process])
        }
        model.closePort(index)
    }

    mutating func end(_ process: Int) throws {
        guard model.isUsable(process) else { return }
        core.close(connections[process])
        drain()
        model.endProcess(process)
        try connect(model.processes[process].domain)
    }

    mutating func destroy() throws {
        let number = UInt16.random(in: 0..<3, using: &random)
        try core.destroyDomain(DomainID(number))
        drain()
        model.lives[number] = nil
        // In the core's order: by age of the connection.
        for process in connections.indices where model.processes[process].domain == number && model.isUsable(process) {
            model.endProcess(process)
        }
        try createDomain(number)
    }

    mutating func drain() { while core.reap(budget: Int.random(in: 1...5, using: &random)) {} }

    mutating func compare() throws {
        for effect in core.takeEffects() {
            guard case .runReleased(let run, _, _) = effect else { continue }
            #expect(released.insert(run).inserted, "released twice")
        }
        #expect(released == Set(runIDs.indices.filter { model.runs[$0].isReleased }.map { runIDs[$0] }))
        let (usage, expected) = (core.usage, model.usage)
        #expect(usage.runs == expected.runs && usage.deferred == expected.deferred && usage.mappings == expected.mappings)
        #expect(usage.ports == expected.ports && usage.pages == expected.pages)
        for process in connections.indices where model.isUsable(process) {
            for slot in 8..<20 {
                let reference = UInt32(tables[process].index * grantsPerTableFrame + slot)
                let pins = model.held.filter {
                    $0.granterLife == model.processes[process].life && $0.reference == reference
                }
                let flags = tables[process].frame.header(slot).flags
                // Plain, for it is asked a million times.
                if flags.contains(.reading) == pins.isEmpty || flags.contains(.writing) != pins.contains(where: \.writing) {
                    Issue.record("entry \(reference) says \(flags) with \(pins.count) pins")
                }
            }
        }
    }
}

@Suite struct ModelTests {
    @Test(arguments: 0..<16) func theRulesAgreeWithTheSlowModel(seed: Int) throws {
        var run = try ModelRun(seed: UInt64(seed))
        for _ in 0..<300 { try run.step() }
    }
}
