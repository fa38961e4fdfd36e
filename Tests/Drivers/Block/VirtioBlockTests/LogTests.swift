// The log of dirty pages while a guest migrates: whatever the device writes is marked, after it was written; who copies
// what is marked, again and again, has the same memory when the rings have stopped.

import Connectors
import BlockDevices
import LinuxSystem
import ScriptedDevices
import SharedMemory
import Synchronization
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

@testable import VirtioBlock

@Suite("virtio disk: the log of dirty pages") struct LogTests {
    private func driver(_ rig: DiskRig, _ disk: any BlockDevice, _ kind: RingKind) throws -> VhostDriver {
        try VhostDriver(rig.disk(disk), features: kind.features, adding: .sharedLog)
    }

    @Test("a read marks its data, its status and the ring; a write its status and the ring", arguments: RingKind.allCases)
    func marked(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let driver = try driver(rig, try rig.file().0, kind)
        defer { driver.leave() }
        try driver.start(size: 1024)
        let log = try SharedLog(for: driver)
        #expect(try driver.perform(driver.request(.read, room: 512)).status == 0)
        #expect(log.fetch() == [])
        try driver.begin(log)
        // All that was written into the ring before may be missing where the log begins in the middle of a crash.
        #expect(log.fetch() == driver.devicePages(0))

        // Data from the middle of a page into the third one after it; header and status lie in the first.
        let request = driver.request(.read, page: 8, room: 3 * 4096, pieces: 2)
        #expect(try driver.perform(request).status == 0)
        try driver.send(18, words: 0, 1)
        let read = log.fetch()
        #expect(read.subtracting(driver.devicePages(0)) == driver.pages(request.data, 3 * 4096))
        #expect(!read.isDisjoint(with: driver.devicePages(0)))

        let write = driver.request(.write, page: 16, give: Array(repeating: 7, count: 8192))
        #expect(try driver.perform(write).status == 0)
        try driver.send(18, words: 0, 1)
        #expect(log.fetch().subtracting(driver.devicePages(0)) == driver.pages(write.status, 1))

        // Refused: nothing but its status was written.
        let beyond = driver.request(.read, sector: 1 << 40, page: 24, room: 4096)
        #expect(try driver.perform(beyond).status == 1)
        let name = driver.request(.identity, page: 32, room: 20)
        #expect(try driver.perform(name).status == 0)
        try driver.send(18, words: 0, 1)
        #expect(log.fetch().subtracting(driver.devicePages(0)) == driver.pages(beyond.status, 1).union(driver.pages(name.data, 20)))
    }

    @Test("a read that began before the log was on and ends after is marked", arguments: RingKind.allCases)
    func begunBefore(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = ScriptedDisk()
        let driver = try driver(rig, disk, kind)
        defer { driver.leave() }
        try driver.start()
        let request = driver.request(.read, page: 8, room: 4096)
        try driver.offer(request)
        #expect(disk.wait(for: 1))
        let log = try SharedLog(for: driver)
        try driver.begin(log)
        #expect(log.fetch() == driver.devicePages(0))
        disk.end(0, .failed(.ioError))
        _ = try driver.reap()
        #expect(log.fetch().isSuperset(of: driver.pages(request.data, 4096)))
    }

    @Test("a log that is off is not written, nor one that was replaced", arguments: RingKind.allCases)
    func replaced(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = ScriptedDisk()
        let driver = try driver(rig, disk, kind)
        defer { driver.leave() }
        try driver.start()
        let (first, second) = (try SharedLog(for: driver), try SharedLog(for: driver))
        try driver.begin(first)
        let request = driver.request(.read, page: 8, room: 4096)
        try driver.offer(request)
        #expect(disk.wait(for: 1))
        try driver.begin(second)
        _ = (first.fetch(), second.fetch())
        disk.end(0)
        _ = try driver.reap()
        #expect(first.fetch() == [])
        #expect(second.fetch().isSuperset(of: driver.pages(request.data, 4096)))
        try driver.offer(driver.request(.read, page: 16, room: 4096))
        #expect(disk.wait(for: 2))
        try driver.endLog()
        _ = second.fetch()
        disk.end(1)
        _ = try driver.reap()
        #expect(second.fetch() == [])
    }

    @Test("what waits for a disk that is away when the guest leaves is answered, or taken along", arguments: RingKind.allCases)
    func awayAtStop(kind: RingKind) throws {
        for isTaken in [false, true] {
            let rig = try DiskRig()
            defer { rig.stop() }
            let disk = ScriptedDisk()
            disk.isAway = true
            let more: VhostProtocolFeatures = isTaken ? [.inflightMemory, .inflightAtStop] : .inflightMemory
            let driver = try VhostDriver(rig.disk(disk), features: kind.features, adding: more.union(.sharedLog))
            defer { driver.leave() }
            try driver.addInflight()
            try driver.start()
            let request = driver.request(.read, room: 512)
            let ticket = try driver.offer(request)
            #expect(disk.wait(for: 1))
            try driver.begin(SharedLog(for: driver))
            try driver.send(11, words: 0, 0)
            let used = try driver.queues[0]?.reap()
            guard isTaken else {
                #expect(used?.written == 1)
                #expect(driver.region.load(request.status, as: UInt8.self) == 1)
                continue
            }
            #expect(used == nil)
            // Another end goes on with the same memory, wherever it is said to begin.
            disk.isAway = false
            try driver.settle(0, base: 0)
            #expect(disk.wait(for: 2))
            disk.end(1)
            #expect(try driver.reap().ticket == ticket)
            #expect(driver.region.load(request.status, as: UInt8.self) == 0)
        }
    }

    @Test("a log is let go with the feature, and with the front end")
    func letGo() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let driver = try driver(rig, try rig.file().0, .split)
        try driver.start()
        let live = SharedRegion.liveCount
        for _ in 0..<2 {
            let log = try SharedLog(for: driver)
            try driver.begin(log)
            #expect(SharedRegion.liveCount == live + 2)
            try driver.endLog()
            #expect(eventually { SharedRegion.liveCount == live + 1 })
        }
        try driver.begin(SharedLog(for: driver))
        driver.leave()
        #expect(eventually { SharedRegion.liveCount <= live })
    }

    @Test("a log's own signal is rung when something was marked")
    func signal() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let driver = try driver(rig, try rig.file().0, .split)
        defer { driver.leave() }
        try driver.start()
        let bell = try EventCounter()
        try driver.send(7, descriptors: [bell.descriptor])
        try driver.begin(SharedLog(for: driver))
        #expect(try waitReadable(bell.descriptor.rawValue, milliseconds: 20000))
        bell.descriptor.takeCount()
        #expect(try driver.perform(driver.request(.read, room: 512)).status == 0)
        #expect(try waitReadable(bell.descriptor.rawValue, milliseconds: 20000))
    }

    /// The whole of it: a thread copies what is marked while the driver works; after the stop one last round, and the
    /// copy is the memory.
    @Test("what is copied by the log is the memory when the rings have stopped", arguments: RingKind.allCases)
    func migrates(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let file = try rig.file(byteCount: 4 << 20)
        var random = SplitMix(UInt64(kind.features.rawValue))
        let bytes = (0..<1 << 16).map { _ in UInt8.random(in: 0...255, using: &random) }
        let disk = file.0
        let driver = try driver(rig, disk, kind)
        defer { driver.leave() }
        try driver.start(size: 256)
        for place in 0..<8 {
            let write = driver.request(.write, sector: UInt64(place) * 128, give: bytes)
            #expect(try driver.perform(write).status == 0)
        }
        let log = try SharedLog(for: driver)
        try driver.begin(log)
        let copy = try SharedRegion(anonymous: driver.region.byteCount)
        copy.write(driver.region.bytes(at: 0, count: copy.byteCount), at: 0)
        let isOver = Atomic(false)
        let region = driver.region
        let rounds = Atomic(0)
        // Safe: the log is fetched on this thread until it is joined.
        nonisolated(unsafe) let shared = log
        let copier = try WorkerThread(name: "copier") {
            while !isOver.load(ordering: .acquiring) {
                for page in shared.fetch() { copy.copy(from: region, page * 4096, count: 4096, to: page * 4096) }
                rounds.wrappingAdd(1, ordering: .relaxed)
            }
        }
        for turn in 0..<300 {
            let count = Int.random(in: 1...16, using: &random) * 512
            let request = driver.request(
                .read, sector: UInt64.random(in: 0..<900, using: &random), page: turn % 64 * 4, room: count,
                pieces: Int.random(in: 1...3, using: &random))
            #expect(try driver.perform(request).status == 0)
        }
        try driver.send(11, words: 0, 0)
        isOver.store(true, ordering: .releasing)
        copier.join()
        for page in log.fetch() { copy.copy(from: region, page * 4096, count: 4096, to: page * 4096) }
        // What the driver wrote itself is the hypervisor's to mark: headers, statuses' first bytes, its parts of rings.
        for turn in 0..<64 {
            let place = VhostDriver.dataStart + turn * 4 * 4096
            #expect(copy.bytes(at: place + 512, count: 8192) == region.bytes(at: place + 512, count: 8192), "page \(turn)")
            #expect(copy.load(place + 16, as: UInt8.self) == 0)
        }
        let areas = VirtqueueAreas(in: region, size: 256, features: kind.features)
        if !areas.isPacked {
            let count = SplitLayout.deviceBytes(256, eventIndex: kind.features.contains(.eventIndex))
            #expect(copy.bytes(at: areas.device.offset, count: count) == region.bytes(at: areas.device.offset, count: count))
        } else {
            #expect(copy.bytes(at: areas.device.offset, count: 4) == region.bytes(at: areas.device.offset, count: 4))
            for entry in 0..<256 {
                #expect(copy.loadRelaxed16(entry * 16 + 14) == region.loadRelaxed16(entry * 16 + 14), "entry \(entry)")
            }
        }
    }
}
