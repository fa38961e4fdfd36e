// A disk for a driver behind an IOMMU: IO addresses that are asked for, answered, taken back, and wrong.

import Connectors
import BlockDevices
import LinuxSystem
import ScriptedDevices
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

@testable import VirtioBlock

@Suite("virtio disk: behind an IOMMU") struct TranslationTests {
    /// Far beyond what page tables of 40 bits have.
    private static let base: UInt64 = 0xFFFF_1234_0000_0000

    private func iommu(_ base: UInt64 = base, isScattered: Bool = false) throws -> FrontIommu {
        try FrontIommu(base: base, pages: 512, isScattered: isScattered)
    }

    /// Bytes that tell where each of them belongs.
    private func pattern(_ count: Int, _ seed: UInt8 = 1) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) &+ seed }
    }

    /// Answers what is asked until something is so.
    private func answered(_ driver: VhostDriver, until isSo: () -> Bool) throws -> Bool {
        try eventually {
            try driver.answerMisses()
            return isSo()
        }
    }

    /// Answers nothing until something is so.
    private func heard(_ iommu: FrontIommu, until isSo: () -> Bool) throws -> Bool {
        try eventually {
            try iommu.listen()
            return isSo()
        }
    }

    @Test(
        "what is written is read, in pages that lie apart, and each page is asked for once", arguments: RingKind.allCases,
        [false, true])
    func roundTrip(kind: RingKind, isScattered: Bool) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let iommu = try iommu(isScattered: isScattered)
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: kind.features, iommu: iommu)
        defer { driver.leave() }
        try driver.start(size: 1024)
        for (index, pieces) in [1, 3, 7].enumerated() {
            let bytes = pattern(70_000 / 512 * 512, UInt8(index))
            let write = driver.request(.write, sector: 8, page: index * 40, give: bytes, pieces: pieces)
            #expect(try driver.perform(write) == (0, 1))
            let read = driver.request(.read, sector: 8, page: index * 40 + 20, room: bytes.count, pieces: pieces)
            #expect(try driver.perform(read) == (0, UInt32(bytes.count) + 1))
            #expect(driver.region.bytes(at: read.data, count: bytes.count) == bytes)
        }
        #expect(iommu.failures == [])
        #expect(Set(iommu.misses).count == iommu.misses.count, "a page was asked for twice")
        #expect(iommu.misses.allSatisfy { $0 % 4096 == 0 && $0 >= Self.base })
    }

    @Test("an answer may be larger than a page, and larger than the request", arguments: [1 << 14, 1 << 21] as [UInt64])
    func largeEntries(bytes: UInt64) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let iommu = try iommu()
        iommu.answerBytes = bytes
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: RingKind.split.features, iommu: iommu)
        defer { driver.leave() }
        try driver.start()
        let data = pattern(32768)
        #expect(try driver.perform(driver.request(.write, give: data)).status == 0)
        let read = driver.request(.read, page: 40, room: data.count)
        #expect(try driver.perform(read).status == 0)
        #expect(driver.region.bytes(at: read.data, count: data.count) == data)
        #expect(iommu.failures == [])
    }

    @Test("VU43: memory that may only be read, or only be written, is used for nothing else", arguments: RingKind.allCases)
    func rights(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let iommu = try iommu()
        // Pages behind the headers', which all requests have writable for their status.
        iommu.rights[VhostDriver.dataStart / 4096 + 1] = 1
        iommu.rights[VhostDriver.dataStart / 4096 + 11] = 2
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: kind.features, iommu: iommu)
        defer { driver.leave() }
        try driver.start()
        let secret = pattern(8192)
        driver.region.write(secret, at: VhostDriver.dataStart + 512)
        let read = driver.request(.read, room: 8192)
        #expect(try driver.perform(read) == (1, 1))
        #expect(driver.region.bytes(at: VhostDriver.dataStart + 4096, count: 4608) == Array(secret[3584...]))
        #expect(try driver.perform(driver.request(.write, page: 10, give: secret)) == (1, 1))
        // The other way round each of them is right.
        #expect(try driver.perform(driver.request(.write, give: secret)).status == 0)
        #expect(try driver.perform(driver.request(.read, page: 10, room: 8192)).status == 0)
        #expect(driver.region.bytes(at: VhostDriver.dataStart + 10 * 4096 + 512, count: 8192) == secret)
        try iommu.listen()
        #expect(Set(iommu.failures) == Set([1, 11].map { iommu.address(VhostDriver.dataStart + $0 * 4096) }))
    }

    @Test("VU44: an address that nobody answers for costs its own request a second, and no other", arguments: RingKind.allCases)
    func unanswered(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let iommu = try iommu()
        iommu.rights[VhostDriver.dataStart / 4096 + 1] = 0
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: kind.features, iommu: iommu)
        defer { driver.leave() }
        try driver.start()
        let bad = try driver.offer(driver.request(.read, room: 8192))
        let good = try driver.offer(driver.request(.read, page: 20, room: 8192))
        let begun = monotonicMilliseconds()
        var used = try driver.reap()
        #expect(used.ticket == bad && used.written == 1)
        #expect((900...3000).contains(monotonicMilliseconds() - begun))
        #expect(driver.region.load(VhostDriver.dataStart + 16) == UInt8(1))
        used = try driver.reap()
        #expect(used.ticket == good && used.written == 8193)
        try iommu.listen()
        #expect(iommu.failures == [iommu.address(VhostDriver.dataStart + 4096)])
        #expect(iommu.misses.filter { $0 == iommu.failures.first }.count == 1)
    }

    @Test("a request of which not even the status can be reached is given back, and the ring goes on", arguments: RingKind.allCases)
    func nowhere(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let iommu = try iommu()
        iommu.rights[VhostDriver.dataStart / 4096] = 0
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: kind.features, iommu: iommu)
        defer { driver.leave() }
        try driver.start()
        #expect(try driver.perform(driver.request(.read, room: 512)) == (0xFF, 0))
        #expect(try driver.perform(driver.request(.read, page: 20, room: 512)) == (0, 513))
    }

    @Test(
        "VU45: a range is taken back only when no request in work has it, and others' are no reason to wait",
        arguments: RingKind.allCases)
    func takenBackInWork(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = ScriptedDisk()
        let iommu = try iommu()
        let driver = try VhostDriver(rig.disk(disk), features: kind.features, iommu: iommu)
        defer { driver.leave() }
        try driver.start()
        try driver.offer(driver.request(.read, room: 4096))
        try #require(try answered(driver) { disk.operations.count == 1 })
        // A page of nobody's, and one that a request had before.
        let begun = monotonicMilliseconds()
        try driver.invalidate(VhostDriver.dataStart + 30 * 4096, 4096)
        try driver.invalidate(VhostDriver.dataStart + 31 * 4096 + 17, 3)
        #expect(monotonicMilliseconds() - begun < 500)
        let ender = try WorkerThread(name: "ender") {
            sleepMilliseconds(200)
            disk.end(0)
        }
        let waiting = monotonicMilliseconds()
        try driver.invalidate(VhostDriver.dataStart + 4096, 1)
        #expect(monotonicMilliseconds() - waiting >= 190, "answered while the page was in use")
        ender.join()
        #expect(try driver.reap().written == 4097)
        // Used again it is asked for again.
        let asked = iommu.misses.count
        try driver.offer(driver.request(.read, room: 4096))
        try #require(try answered(driver) { disk.operations.count == 2 })
        disk.end(1)
        #expect(try driver.reap().written == 4097)
        #expect(iommu.misses.dropFirst(asked) == [iommu.address(VhostDriver.dataStart + 4096)])
    }

    @Test("a ring whose pages are taken back goes on when they have come again, with all that it had", arguments: RingKind.allCases)
    func ringTakenBack(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let iommu = try iommu(isScattered: true)
        let driver = try VhostDriver(rig.disk(try rig.file().0, queues: 2), features: kind.features, rings: 2, iommu: iommu)
        defer { driver.leave() }
        for ring in 0...1 { try driver.start(ring, size: 1024) }
        for round in 0..<12 {
            let bytes = pattern(2048, UInt8(round))
            try driver.offer(driver.request(.write, sector: 16, page: round, give: bytes), on: round % 2)
            // Before and after it is taken; all there is, as a guest's kernel does now and then, and a part.
            if round % 3 == 1 { try driver.send(22, 0, 0, 0, 3 << 8) }
            if round % 3 == 2 { try driver.invalidate(0, 1) }
            #expect(try driver.reap(on: round % 2).written == 1)
            let read = driver.request(.read, sector: 16, page: round, room: 2048)
            #expect(try driver.perform(read, on: 1).written == 2049)
            #expect(driver.region.bytes(at: read.data, count: 2048) == bytes)
        }
        #expect(iommu.failures == [])
    }

    @Test("a ring is stopped while a request waits for an answer, and does it when it runs again", arguments: RingKind.allCases)
    func stopWhileWaiting(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let iommu = try iommu()
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: kind.features, iommu: iommu)
        defer { driver.leave() }
        try driver.start()
        #expect(try driver.perform(driver.request(.flush, page: 300)).status == 0)
        iommu.answers = false
        let request = driver.request(.read, page: 5, room: 512)
        let asked = iommu.misses.count
        try driver.offer(request)
        #expect(try heard(iommu) { iommu.misses.count > asked })
        let begun = monotonicMilliseconds()
        let answer = try driver.send(11, words: 0, 0)
        #expect(monotonicMilliseconds() - begun < 500)
        let base = answer.suffix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        #expect(try driver.queues[0]?.reap() == nil)
        iommu.answers = true
        try driver.settle(0, base: base)
        #expect(try driver.reap().written == 513)
        #expect(driver.region.load(request.status) == UInt8(0))
    }

    @Test("rings of a successor start when it has asked where they are", arguments: RingKind.allCases)
    func handover(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let iommu = try iommu(isScattered: true)
        let (file, path) = try rig.file()
        let driver = try VhostDriver(rig.disk(file), features: kind.features, iommu: iommu)
        defer { driver.leave() }
        try driver.start()
        let bytes = pattern(4096)
        #expect(try driver.perform(driver.request(.write, give: bytes)).status == 0)
        let handover = try driver.putBy()
        _ = path
        try driver.goOn(rig.disk(file), handover)
        let read = driver.request(.read, page: 9, room: 4096)
        #expect(try driver.perform(read).written == 4097)
        #expect(driver.region.bytes(at: read.data, count: 4096) == bytes)
    }

    @Test("what is in flight is kept while a ring's pages are taken back", arguments: [RingKind.split, .packed])
    func inflight(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = ScriptedDisk()
        disk.isAway = true
        let iommu = try iommu()
        let driver = try VhostDriver(
            rig.disk(disk), features: kind.features, adding: [.inflightMemory, .inflightAtStop], iommu: iommu)
        defer { driver.leave() }
        try driver.addInflight()
        try driver.start()
        try driver.offer(driver.request(.read, room: 512))
        try #require(try answered(driver) { disk.operations.count == 1 })
        // Without waiting for a disk that is away: the request is done again.
        try driver.invalidate(0, 4096)
        disk.isAway = false
        try #require(try answered(driver) { disk.operations.count == 2 })
        disk.end(1)
        #expect(try driver.reap().written == 513)
    }

    @Test("pages are logged by the guest's addresses, whatever their IO addresses are", arguments: RingKind.allCases)
    func logged(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let iommu = try iommu()
        let driver = try VhostDriver(
            rig.disk(try rig.file().0), features: kind.features, adding: .sharedLog, iommu: iommu)
        defer { driver.leave() }
        try driver.start()
        #expect(try driver.perform(driver.request(.flush, page: 300)).status == 0)
        let log = try SharedLog(for: driver)
        try driver.begin(log)
        _ = log.fetch()
        let read = driver.request(.read, page: 50, room: 8192)
        #expect(try driver.perform(read).status == 0)
        let marked = log.fetch()
        #expect(marked.isSuperset(of: driver.pages(read.data, 8192)), "\(marked)")
        #expect(marked.contains(read.status / 4096))
        #expect(!marked.isDisjoint(with: driver.devicePages(0)))
        let allowed = driver.pages(read.data, 8192).union(driver.devicePages(0)).union([read.status / 4096])
        #expect(marked.isSubset(of: allowed), "\(marked)")
    }
}
