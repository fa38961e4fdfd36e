// The rules once more, as lists that are searched: slow, and obvious enough to be believed. `ModelTests` holds the core
// against it.

import HypervisorRules
import XenTypes

struct SlowModel {
    struct Process { var domain: UInt16; var life: Int; var isAlive = true }
    struct Run {
        var process: Int, peer: UInt16, access: GrantAccess, firstFrame: UInt32, pages: Int
        var isRetired = false
        var isReleased = false
    }
    struct Held {
        var handle: UInt32; var process: Int; var granterLife: Int; var reference: UInt32; var run: Int; var page: Int
        var writing: Bool
    }
    struct Port {
        var process: Int; var number: UInt32; var remote: UInt16; var peer: Int?; var isOpen = true
        var pending = false; var masked = false
    }

    /// Which life of each domain is the live one.
    var lives: [UInt16: Int] = [:]
    var nextLife = 0
    var processes: [Process] = []
    var runs: [Run] = []
    var held: [Held] = []
    var ports: [Port] = []
    /// Who writes each page of each life's table.
    var tableOwners: [Int: [Int]] = [:]

    func isUsable(_ process: Int) -> Bool { processes[process].isAlive }

    /// What a map must answer, given what the shared entry says at this moment.
    func expectedMap(
        _ reference: UInt32, of granter: UInt16, _ access: GrantAccess, by process: Int, entry: (GrantHeader, UInt32)?
    ) -> (GrantStatus, run: Int, page: Int) {
        func no(_ status: GrantStatus) -> (GrantStatus, Int, Int) { (status, -1, -1) }
        guard isUsable(process) else { return no(.generalError) }
        let mapper = processes[process].domain
        guard let life = lives[granter] else { return no(.badDomain) }
        guard reference >= 8, let (header, frame) = entry else { return no(.badGrantReference) }
        let allows =
            header.flags.rawValue & 0x103 == 1 && header.domain.rawValue == mapper
            && (access == .readOnly || !header.flags.contains(.readOnly))
        let pins = held.filter { $0.granterLife == life && $0.reference == reference }
        if let first = pins.first {
            guard processes[first.process].domain == mapper else { return no(.generalError) }
            guard !runs[first.run].isRetired else { return no(.badPage) }
            if access == .readWrite && !pins.contains(where: \.writing) {
                guard runs[first.run].access == .readWrite, allows else { return no(.generalError) }
            }
            return (.okay, first.run, first.page)
        }
        guard allows else { return no(.generalError) }
        let writer = tableOwners[life]?[Int(reference) / grantsPerTableFrame]
        guard
            let run = runs.firstIndex(where: {
                !$0.isReleased && !$0.isRetired && $0.process == writer && frame >= $0.firstFrame
                    && frame < $0.firstFrame + UInt32($0.pages)
            })
        else { return no(.badPage) }
        guard runs[run].peer == mapper, access == .readOnly || runs[run].access == .readWrite else {
            return no(.permissionDenied)
        }
        return (.okay, run, Int(frame - runs[run].firstFrame))
    }

    mutating func releaseIdleRuns() {
        for index in runs.indices where runs[index].isRetired && !held.contains(where: { $0.run == index }) {
            runs[index].isReleased = true
        }
    }

    mutating func closePort(_ index: Int) {
        ports[index].isOpen = false
        if let peer = ports[index].peer {
            ports[peer].peer = nil
            ports[peer].remote = processes[ports[index].process].domain
            ports[peer].pending = true
        }
    }

    mutating func endProcess(_ process: Int) {
        processes[process].isAlive = false
        for index in ports.indices where ports[index].isOpen && ports[index].process == process { closePort(index) }
        held.removeAll { $0.process == process }
        for index in runs.indices where runs[index].process == process { runs[index].isRetired = true }
        releaseIdleRuns()
    }

    var usage: (runs: Int, deferred: Int, mappings: Int, ports: Int, pages: Int) {
        let live = runs.filter { !$0.isReleased }
        return (
            live.count, live.count { $0.isRetired }, held.count, ports.count { $0.isOpen }, live.reduce(0) { $0 + $1.pages }
        )
    }
}
