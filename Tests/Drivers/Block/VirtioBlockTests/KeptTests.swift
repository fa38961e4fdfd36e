// A disk whose process is killed, with a front end that keeps nothing of what is in flight: what this side keeps does.

import Connectors
import LinuxSystem
import ScriptedDevices
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

@testable import VirtioBlock

@Suite("virtio disk: rings that are kept for a successor") struct KeptTests {
    /// What is kept, as if the process had been killed.
    private func killed(_ driver: VhostDriver) throws -> VhostHandover {
        var kept = try #require(driver.record?.session.withLock { $0 })
        kept.wasKilled = true
        return kept
    }

    @Test("what was in flight at a kill is done again, once, and what was answered is not", arguments: RingKind.allCases)
    func inFlight(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (first, second) = (ScriptedDisk(), ScriptedDisk())
        let driver = try VhostDriver(rig.disk(first), features: kind.features, isKept: true)
        defer { driver.leave() }
        try driver.start()
        for round in 0..<3 {
            try driver.offer(driver.request(.write, sector: UInt64(round), give: Array(repeating: 1, count: 512)))
            #expect(first.wait(for: round + 1))
        }
        // Out of order: the last one is answered.
        first.end(2)
        _ = try driver.reap()
        // Requests that wait for a disk are left, as a killed process leaves them.
        let kept = try killed(driver)
        first.isAway = true
        _ = try driver.putBy()
        try driver.goOn(rig.disk(second), kept)
        #expect(second.wait(for: 2))
        sleepMilliseconds(20)
        #expect(rig.log.all.contains { $0.contains("2 requests are done again") }, "\(rig.log.all)")
        for place in 0..<2 { second.end(place) }
        for _ in 0..<2 { _ = try driver.reap() }
        #expect(try driver.queues[0]?.reap() == nil)
    }

    @Test("a ring that the driver begins anew begins with nothing in flight", arguments: RingKind.allCases)
    func anew(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, _) = try rig.file()
        let driver = try VhostDriver(rig.disk(device), features: kind.features, isKept: true)
        defer { driver.leave() }
        try driver.start()
        for round in 0..<3 {
            for sector in 0..<5 {
                let bytes = Array(repeating: UInt8(round * 16 + sector), count: 512)
                #expect(try driver.perform(driver.request(.write, sector: UInt64(sector), give: bytes)).status == 0)
            }
            try driver.send(11, words: 0, 0)
            try driver.renew()
        }
        #expect(try driver.perform(driver.request(.read, room: 512)).status == 0)
        #expect(driver.ended.all.isEmpty && rig.log.all.isEmpty, "\(driver.ended.all) \(rig.log.all)")
    }

    @Test("what is kept of a message is kept before its answer, and what is in the midst of one is told from what is not")
    func steps() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, _) = try rig.file()
        let driver = try VhostDriver(rig.disk(device), features: .version1, isKept: true)
        try driver.start()
        driver.leave()
        var steps = try #require(driver.record?.steps.all[...])
        #expect(steps.prefix(2) == ["keep", "began"] && steps.last == "ended")
        steps = steps.dropFirst(2).dropLast()
        // The last one is the end of the stream; a message whose payload comes after its header is read in two.
        while let step = steps.popFirst(), step == "read" {
            while steps.first == "read" { steps.removeFirst() }
            guard !steps.isEmpty else { break }
            #expect(steps.prefix(2) == ["keep", "answered"])
            steps = steps.dropFirst(2)
        }
        #expect(steps.isEmpty, "\(steps)")
    }

    @Test(
        "VU53: memory that becomes shorter under load ends its front end's connection, and nothing else",
        arguments: RingKind.allCases)
    func VU53_shrinks(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, _) = try rig.file()
        let beside = try DiskRig()
        defer { beside.stop() }
        let (other, _) = try beside.file()
        let trusted = try VhostDriver(rig.disk(device), features: kind.features, mayShrink: true)
        let honest = try VhostDriver(rig.disk(other), features: kind.features)
        defer {
            trusted.leave()
            honest.leave()
        }
        for driver in [trusted, honest] { try driver.start() }
        for driver in [trusted, honest] {
            #expect(try driver.perform(driver.request(.write, give: Array(repeating: 7, count: 512))).status == 0)
        }
        // In work and in the ring when it goes.
        for _ in 0..<4 { try trusted.offer(trusted.request(.read, room: 4096)) }
        trusted.shrink()
        trusted.kicks[0].ring()
        #expect(eventually(20_000) { !trusted.ended.all.isEmpty })
        #expect(trusted.ended.all == ["has made its memory shorter than it had said"])
        for _ in 0..<20 { #expect(try honest.perform(honest.request(.read, room: 512)).status == 0) }
        #expect(honest.ended.all.isEmpty)
    }
}
