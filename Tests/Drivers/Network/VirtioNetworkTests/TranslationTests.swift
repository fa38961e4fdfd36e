// An interface for a driver behind an IOMMU.

import Connectors
import LinuxSystem
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

@testable import VirtioNetwork

@Suite("virtio network: behind an IOMMU") struct TranslationTests {
    private func iommu() throws -> FrontIommu { try FrontIommu(base: 0xFFFF_FFFF_F000_0000, pages: 1024, isScattered: true) }

    @Test("frames go both ways, in pages that lie apart", arguments: RingKind.allCases, [[], VirtioFeatures.merging])
    func bothWays(kind: RingKind, more: VirtioFeatures) throws {
        let rig = try InterfaceRig(mtu: 9000)
        defer { rig.stop() }
        let iommu = try iommu()
        let driver = try VhostDriver(rig.interface(), features: kind.features.union(more), iommu: iommu)
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring, size: 64) }
        for (index, count) in [60, 1500, 9000].enumerated() {
            let sent = try driver.send(frame: frame(count), page: index * 4, cut: [3, 20])
            try driver.expectUsed(sent, written: 0, on: 1)
            #expect(try rig.arrived().bytes == frame(count))
        }
        // Memory for a frame lies in more than one chain, or in one.
        for (index, count) in [60, 1500, 9000].enumerated() {
            var given: [ChainTicket] = []
            for part in 0..<(more.isEmpty ? 1 : 3) {
                given.append(try driver.give(more.isEmpty ? 9012 : 4096, page: 100 + index * 16 + part * 4))
            }
            try rig.port.send(frame(count, seed: UInt8(index)))
            let used = try driver.reap(on: 0)
            #expect(used.ticket == given.first)
            let first = min(Int(used.written), count + 12) - 12
            #expect(
                driver.region.bytes(at: driver.place(100 + index * 16) + 12, count: first)
                    == Array(frame(count, seed: UInt8(index)).prefix(first)))
            if !more.isEmpty {
                let left = Int(driver.header(page: 100 + index * 16).bufferCount) - 1
                for _ in 0..<left { _ = try driver.reap(on: 0) }
                // What was given and not used is used by the next; enough for it.
                for _ in 0..<(2 - left) {
                    try rig.port.send(frame(60))
                    #expect(try driver.reap(on: 0).written == 72)
                }
            }
        }
        #expect(iommu.failures == [])
        #expect(Set(iommu.misses).count == iommu.misses.count)
    }

    @Test(
        "a frame in memory that nobody answers for is dropped after a second, and the next one goes", arguments: RingKind.allCases)
    func unanswered(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let iommu = try iommu()
        iommu.rights[VhostDriver.dataStart / 4096] = 0
        let driver = try VhostDriver(rig.interface(), features: kind.features, iommu: iommu)
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring) }
        let lost = try driver.send(frame: frame(60))
        let next = try driver.send(frame: frame(61), page: 5)
        try driver.expectUsed(lost, written: 0, on: 1)
        try driver.expectUsed(next, written: 0, on: 1)
        #expect(try rig.arrived().bytes == frame(61))
        try iommu.listen()
        #expect(iommu.failures == [iommu.address(VhostDriver.dataStart)])
    }

    @Test("memory that waits for frames is taken back at once, and asked for again when one comes", arguments: RingKind.allCases)
    func postedTakenBack(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let iommu = try iommu()
        let driver = try VhostDriver(rig.interface(), features: kind.features.union(.merging), iommu: iommu)
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring) }
        var tickets: [ChainTicket] = []
        for index in 0..<8 { tickets.append(try driver.give(600, page: index)) }
        try rig.port.send(frame(60))
        try driver.expectUsed(tickets[0], written: 72, on: 0)
        for index in 1..<8 {
            try iommu.listen()
            let (asked, begun) = (iommu.misses.count, monotonicMilliseconds())
            // A page of its own, then all there is, rings included.
            if index % 2 == 1 { try driver.invalidate(driver.place(index), 4096) } else { try driver.send(22, 0, 0, 0, 3 << 8) }
            #expect(monotonicMilliseconds() - begun < 900)
            try rig.port.send(frame(60 + index))
            try driver.expectUsed(tickets[index], written: UInt32(72 + index), on: 0)
            #expect(driver.region.bytes(at: driver.place(index) + 12, count: 60 + index) == frame(60 + index))
            // The first one may not have been answered before.
            #expect(
                index == 1 || iommu.misses[asked...].contains(iommu.address(driver.place(index))),
                "used without being asked for again")
            let sent = try driver.send(frame: frame(100 + index), page: 50 + index)
            try driver.expectUsed(sent, written: 0, on: 1)
            #expect(try rig.arrived().bytes == frame(100 + index))
        }
        #expect(iommu.failures == [])
    }

    @Test("a ring that is stopped while its memory is asked for gives back what it has not used", arguments: RingKind.allCases)
    func stopWhileWaiting(kind: RingKind) throws {
        let rig = try InterfaceRig()
        defer { rig.stop() }
        let iommu = try iommu()
        let driver = try VhostDriver(rig.interface(), features: kind.features, iommu: iommu)
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring) }
        // A page each.
        _ = try eventually {
            try driver.answerMisses()
            return iommu.misses.count >= 2
        }
        iommu.answers = false
        let asked = iommu.misses.count
        let given = try driver.give(600, page: 0)
        try rig.port.send(frame(60))
        #expect(
            try eventually {
                try iommu.listen()
                return iommu.misses.count > asked
            })
        let answer = try driver.send(11, words: 0, 0)
        iommu.answers = true
        try driver.resume(0, base: answer.suffix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
        try driver.expectUsed(given, written: 72, on: 0)
    }
}
