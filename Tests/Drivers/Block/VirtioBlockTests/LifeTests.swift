// A ring's life and a session's: starts, stops, memory that goes, front ends that vanish; and what a disk does of it.

import Connectors
import BlockDevices
import Glibc
import LinuxSystem
import ScriptedDevices
import SharedMemory
import TestSupport
import Testing
import VhostUser
import VirtioRing
import VirtioWire

@testable import VirtioBlock

@Suite("virtio disk: rings come and go") struct LifeTests {
    private func number(_ payload: [UInt8]) -> UInt32 {
        payload.suffix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }

    @Test("a kick that comes before the ring is enabled is not lost", arguments: RingKind.allCases)
    func kickBeforeEnable(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: kind.features)
        defer { driver.leave() }
        try driver.start(isEnabled: false)
        let request = driver.request(.read, room: 512)
        try driver.offer(request)
        driver.kicks[0].ring()
        sleepMilliseconds(50)
        #expect(try driver.queues[0]?.reap() == nil)
        try driver.send(18, words: 0, 1)
        #expect(try driver.reap().written == 513)
    }

    @Test("a write of a driver that knows no flush is durable before it is answered")
    func writeThrough() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = ScriptedDisk()
        let driver = try VhostDriver(rig.disk(disk), features: .version1)
        defer { driver.leave() }
        try driver.start()
        let request = driver.request(.write, give: Array(repeating: 1, count: 512))
        try driver.offer(request)
        for index in 0..<3 {
            try #require(disk.wait(for: index + 1))
            #expect(try driver.queues[0]?.reap() == nil)
            disk.end(index)
        }
        #expect(try driver.reap().written == 1)
        #expect(disk.operations == [.flush, .write(offset: 0), .flush])
    }

    @Test("where the disk can make a write durable by itself, that is all of it", arguments: [false, true])
    func durableWrites(knowsFlush: Bool) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        var geometry = BlockGeometry(byteCount: 4 << 20, discard: DiscardLimits(granularity: 512))
        geometry.writesDurably = true
        let disk = ScriptedDisk(geometry) { _ in .done }
        let driver = try VhostDriver(rig.disk(disk), features: knowsFlush ? RingKind.split.features : .version1)
        defer { driver.leave() }
        try driver.start()
        try driver.offer(driver.request(.write, give: Array(repeating: 1, count: 512)))
        #expect(try driver.reap().written == 1)
        #expect(disk.operations == [.write(offset: 0, isDurable: !knowsFlush)])
    }

    @Test("a driver that knows flushes has them when it asks")
    func noWriteThrough() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = ScriptedDisk()
        let driver = try VhostDriver(rig.disk(disk), features: RingKind.split.features)
        defer { driver.leave() }
        try driver.start()
        try driver.offer(driver.request(.write, give: Array(repeating: 1, count: 512)))
        #expect(disk.wait(for: 1))
        disk.end(0)
        #expect(try driver.reap().written == 1)
        #expect(disk.operations == [.write(offset: 0)])
    }

    @Test("a ring that is stopped ends what it had in work, and says where to go on", arguments: RingKind.allCases)
    func stop(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = ScriptedDisk()
        let driver = try VhostDriver(rig.disk(disk), features: kind.features)
        defer { driver.leave() }
        try driver.start()
        let request = driver.request(.read, room: 512)
        try driver.offer(request)
        #expect(disk.wait(for: 1))
        let ender = try WorkerThread(name: "ender") {
            sleepMilliseconds(100)
            disk.end(0)
        }
        let begun = monotonicMilliseconds()
        let base = number(try driver.send(11, words: 0, 0))
        #expect(monotonicMilliseconds() - begun >= 90)
        ender.join()
        #expect(try driver.queues[0]?.reap()?.written == 513)
        let isPacked = kind.features.contains(.packedRing)
        // A packed ring's three entries are gone, a split one's single chain.
        #expect(base == (isPacked ? 0x8003_8003 : 1))
        #expect(number(try driver.send(11, words: 0, 0)) == base)
    }

    @Test("a request that waits for a disk that is away is left to the next one when its ring stops", arguments: RingKind.allCases)
    func awayAtStop(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = ScriptedDisk()
        disk.isAway = true
        let driver = try VhostDriver(rig.disk(disk), features: kind.features)
        try driver.start()
        let request = driver.request(.read, room: 512)
        try driver.offer(request)
        #expect(disk.wait(for: 1))
        driver.leave()
        #expect(try driver.queues[0]?.reap() == nil)
    }

    @Test("an operation that the disk fails is an error of that request, and no more")
    func failing() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = ScriptedDisk { operation -> DeviceResult? in
            switch operation {
            case .read: return .failed(.ioError)
            case .discard: return .failed(.notSupported)
            default: return .done
            }
        }
        let driver = try VhostDriver(rig.disk(disk), features: RingKind.split.features)
        defer { driver.leave() }
        try driver.start()
        #expect(try driver.perform(driver.request(.read, room: 512)) == (1, 1))
        let range = BlockRange(sector: 0, sectorCount: 8).array
        #expect(try driver.perform(driver.request(.discard, give: range)).status == 2)
        #expect(try driver.perform(driver.request(.flush)).status == 0)
    }

    @Test("memory that goes stops the rings in it; memory that comes back serves them again")
    func memoryGone() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let live = SharedRegion.liveCount
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: RingKind.split.features)
        try driver.start()
        #expect(try driver.perform(driver.request(.read, room: 512)).status == 0)
        try driver.removeMemory()
        // The front end's own mapping is all that is left.
        #expect(eventually { SharedRegion.liveCount == live + 1 })
        try driver.addMemory()
        driver.leave()
        #expect(driver.ended.all == ["left"])
    }

    @Test("a front end that vanishes with requests in flight is waited for, and the next one is served", arguments: 1...2)
    func vanishes(queues: Int) throws {
        let rig = try DiskRig(reactors: 2)
        defer { rig.stop() }
        let scripted = ScriptedDisk()
        let disk = rig.disk(scripted, queues: queues)
        let (open, mapped) = (Descriptor.openCount, SharedRegion.liveCount)
        do {
            let driver = try VhostDriver(disk, features: RingKind.split.features, rings: queues)
            for ring in 0..<queues { try driver.start(ring) }
            try driver.offer(driver.request(.read, room: 512), on: queues - 1)
            #expect(scripted.wait(for: 1))
            let ender = try WorkerThread(name: "ender") {
                sleepMilliseconds(50)
                scripted.end(0)
            }
            driver.leave()
            ender.join()
        }
        #expect(eventually { Descriptor.openCount == open && SharedRegion.liveCount == mapped })
        #expect((Descriptor.openCount, SharedRegion.liveCount) == (open, mapped))
        let again = try VhostDriver(disk, features: RingKind.packed.features)
        defer { again.leave() }
        try again.start()
        try again.offer(again.request(.flush))
        #expect(scripted.wait(for: 2))
        scripted.end(1)
        #expect(try again.reap().written == 1)
    }

    @Test("a ring that makes no sense stops alone, and its error descriptor says so")
    func broken() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = rig.disk(try rig.file().0, queues: 2)
        let driver = try VhostDriver(disk, features: RingKind.split.features, rings: 2)
        defer { driver.leave() }
        for ring in 0..<2 { try driver.start(ring) }
        var bad = VhostDriver.Request()
        bad.chain.appendReadable(GuestRun(address: 0, byteCount: 16))
        try driver.offer(bad, on: 0)
        #expect(try waitReadable(driver.errors[0].descriptor.rawValue, milliseconds: 3000))
        #expect(try driver.perform(driver.request(.read, room: 512), on: 1).status == 0)
        #expect(eventually { !rig.log.all.isEmpty })
        #expect(rig.log.all.count == 1 && rig.log.all[0].contains("ring 0"), "\(rig.log.all)")
    }

    @Test("the configuration is the disk's, as long as is asked for", arguments: [57, 60, 256])
    func configuration(byteCount: UInt32) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.disk(try rig.file(byteCount: 3 << 20).0), features: .version1)
        defer { driver.leave() }
        let payload = try driver.exchange(
            24, [0, byteCount, 0].flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }, [])
        #expect(payload.count == 12 + Int(byteCount))
        #expect(payload[12..<20].reversed().reduce(0) { $0 << 8 | UInt64($1) } == 3 << 11)
        // The last byte that QEMU 7.2 knows of, and what comes behind it.
        #expect(Array(payload[12 + 48..<12 + 57]) == [0, 0, 2, 0, 16, 0, 0, 0, 1])
        #expect(payload[(12 + 57)...].allSatisfy { $0 == 0 })
    }

    @Test("a disk that changes its size: a request past its new end is refused, one that is on it now is done")
    func resized() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, path) = try rig.file()
        let disk = rig.disk(device)
        let driver = try VhostDriver(disk, features: RingKind.split.features)
        defer { driver.leave() }
        try driver.start()
        _ = disk.configuration(from: 0, byteCount: 60)
        let file = try Descriptor.open(path, 2)
        for (byteCount, sectors) in [(1 << 19, 1024), (1 << 21, 4096), (512 * 1001, 1001)] as [(Int, UInt64)] {
            #expect(ftruncate(file.rawValue, off_t(byteCount)) == 0)
            disk.idle()
            // The driver has not looked, or does not heed what it saw.
            #expect(try driver.perform(driver.request(.read, sector: sectors - 1, room: 512)) == (0, 513))
            #expect(try driver.perform(driver.request(.read, sector: sectors, room: 512)) == (1, 1))
            #expect(
                try driver.perform(driver.request(.write, sector: sectors - 1, give: Array(repeating: 1, count: 1024))) == (1, 1))
            #expect(
                try driver.perform(driver.request(.write, sector: sectors - 1, give: Array(repeating: 1, count: 512))) == (0, 1))
            #expect(try file.status().st_size == byteCount)
        }
    }

    @Test("a front end that does not ask for the disk's size, as one that comes again, is told to look at it, and when it changes")
    func sizeNotAsked() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, path) = try rig.file()
        let disk = rig.disk(device)
        let driver = try VhostDriver(disk, features: RingKind.split.features)
        defer { driver.leave() }
        let (ours, theirs) = try StreamSocket.pair()
        try driver.send(21, descriptors: [theirs])
        func news() throws -> [UInt8] {
            guard try waitReadable(ours.rawValue, milliseconds: 0) else { return [] }
            return try StreamSocket.receive(ours.rawValue, capacity: 64, wait: true)
        }
        disk.idle()
        #expect(try news().isEmpty, "nobody uses it")
        try driver.start()
        disk.idle()
        #expect(try news().first == 2)
        disk.idle()
        #expect(try news().isEmpty, "once is enough")
        let file = try Descriptor.open(path, 2)
        #expect(ftruncate(file.rawValue, off_t(1 << 21)) == 0)
        disk.idle()
        #expect(try news().first == 2)
        #expect(try driver.perform(driver.request(.read, sector: 4095, room: 512)) == (0, 513))
    }

    @Test("a flush on one queue covers the writes of another; where it could not, there is one queue")
    func flushAcrossQueues() throws {
        let rig = try DiskRig(reactors: 2)
        defer { rig.stop() }
        let disk = ScriptedDisk { _ in .done }
        let device = rig.disk(disk, queues: 2)
        #expect(device.offer.rings == 2)
        let driver = try VhostDriver(device, features: RingKind.split.features, rings: 2)
        for ring in 0..<2 { try driver.start(ring) }
        #expect(try driver.perform(driver.request(.write, give: Array(repeating: 1, count: 512)), on: 0) == (0, 1))
        #expect(try driver.perform(driver.request(.flush, page: 1), on: 1) == (0, 1))
        driver.leave()
        // One disk under both, which is asked after the write was answered.
        #expect(disk.operations == [.write(offset: 0), .flush])
        disk.queueLimit = 1
        #expect(rig.disk(disk, queues: 2).offer.rings == 1)
    }
}
