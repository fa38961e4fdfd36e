// What a driver's requests do to a disk, over each kind of ring.

import Connectors
import BlockDevices
import LinuxSystem
import SharedMemory
import TestSupport
import Testing
import VirtioRing
import VirtioWire

@testable import VirtioBlock

@Suite("virtio disk: requests") struct RequestTests {
    @Test("what is written is read, whole or in pieces, and no more is said to be written than was", arguments: RingKind.allCases)
    func writeAndRead(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, path) = try rig.file()
        let driver = try VhostDriver(rig.disk(device), features: kind.features)
        defer { driver.leave() }
        try driver.start()
        let pattern = (0..<1536).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 3) }
        let write = try driver.perform(driver.request(.write, sector: 8, give: pattern, pieces: 3))
        #expect(write == (0, 1))
        let read = driver.request(.read, sector: 8, page: 1, room: 1536, pieces: 5)
        #expect(try driver.perform(read) == (0, 1537))
        #expect(driver.region.bytes(at: read.data, count: 1536) == pattern)
        #expect(try driver.perform(driver.request(.flush)) == (0, 1))
        let file = try Descriptor.open(path, 0)
        #expect(Array(try file.readToEnd()[4096..<4096 + 1536]) == pattern)
    }

    @Test("many requests at once, far beyond the ring's size and round its indices", arguments: RingKind.allCases)
    func manyRounds(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: kind.features)
        defer { driver.leave() }
        try driver.start(size: 8)
        for round in 0..<300 {
            let sector = UInt64(round % 200)
            let write = driver.request(.write, sector: sector, page: 0, give: Array(repeating: UInt8(round & 0xFF), count: 512))
            let read = driver.request(.read, sector: sector, page: 1, room: 512)
            #expect(try driver.perform(write).status == 0)
            #expect(try driver.perform(read) == (0, 513))
            #expect(driver.region.load(read.data + 511) == UInt8(round & 0xFF))
        }
    }

    @Test("a request that makes no sense is answered, and does nothing", arguments: RingKind.allCases)
    func nonsense(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, path) = try rig.file(byteCount: 1 << 20)
        let driver = try VhostDriver(rig.disk(device), features: kind.features)
        defer { driver.leave() }
        try driver.start()
        let last: UInt64 = 1 << 11
        let bytes = Array(repeating: UInt8(0xAA), count: 1024)
        // Each at a page of its own.
        let failing: [VhostDriver.Request] = [
            driver.request(.read, sector: last, page: 0, room: 512), driver.request(.read, sector: last - 1, page: 1, room: 1024),
            driver.request(.read, sector: .max, page: 2, room: 512), driver.request(.read, sector: 1 << 55, page: 3, room: 512),
            driver.request(.read, page: 4, room: 511), driver.request(.read, page: 5, room: 0),
            driver.request(.write, page: 6, give: []), driver.request(.write, sector: last - 1, page: 7, give: bytes),
            driver.request(.write, page: 8, give: Array(bytes.prefix(100))), driver.request(.read, page: 9, give: bytes),
            driver.request(.identity, page: 10),
        ]
        for request in failing { #expect(try driver.perform(request).status == 1, "\(request.chain)") }
        for kind in [2, 3, 5, 7, 10, 13, 14, 15, .max].map({ BlockRequestKind(rawValue: $0) }) {
            #expect(try driver.perform(driver.request(kind, give: bytes)).status == 2, "\(kind)")
        }
        #expect(try Descriptor.open(path, 0).readToEnd().allSatisfy { $0 == 0 })
        #expect(try driver.perform(driver.request(.read, room: 512)).status == 0)
    }

    @Test("a chain without a place for its status, or with half a header, is given back", arguments: RingKind.allCases)
    func noStatus(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: kind.features)
        defer { driver.leave() }
        try driver.start()
        var noStatus = VhostDriver.Request()
        noStatus.chain.appendReadable(driver.run(VhostDriver.dataStart, 16))
        try driver.offer(noStatus)
        #expect(try driver.reap().written == 0)
        var half = VhostDriver.Request()
        half.chain.appendReadable(driver.run(VhostDriver.dataStart, 15))
        half.chain.appendWritable(driver.run(VhostDriver.dataStart + 64, 1))
        half.status = VhostDriver.dataStart + 64
        #expect(try driver.perform(half) == (1, 1))
        #expect(try driver.perform(driver.request(.read, room: 512)).status == 0)
    }

    @Test("a header, data and status cut wherever the driver likes", arguments: RingKind.allCases)
    func anyLayout(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: kind.features)
        defer { driver.leave() }
        try driver.start()
        let place = VhostDriver.dataStart
        var request = VhostDriver.Request()
        BlockRequestHeader(.read, sector: 0).store(driver.region, at: place)
        for piece in [(0, 3), (3, 1), (4, 12)] { request.chain.appendReadable(driver.run(place + piece.0, piece.1)) }
        // The status is the last byte of the last piece.
        for piece in [(512, 1), (513, 510), (1023, 2)] { request.chain.appendWritable(driver.run(place + piece.0, piece.1)) }
        request.status = place + 1024
        driver.region.fill(place + 512, count: 513, with: 0xEE)
        #expect(try driver.perform(request) == (0, 513))
        #expect(driver.region.bytes(at: place + 512, count: 513).allSatisfy { $0 == 0 })
    }

    @Test("the disk's name has twenty bytes, cut or filled up")
    func identity() throws {
        for name in ["", "xvda", "a name that is longer than twenty bytes"] {
            let rig = try DiskRig()
            defer { rig.stop() }
            let driver = try VhostDriver(rig.disk(try rig.file().0, identity: name), features: RingKind.split.features)
            defer { driver.leave() }
            try driver.start()
            let request = driver.request(.identity, room: 20)
            driver.region.fill(request.data, count: 20, with: 0xEE)
            #expect(try driver.perform(request) == (0, 21))
            let expected = Array(name.utf8.prefix(20))
            #expect(driver.region.bytes(at: request.data, count: 20) == expected + Array(repeating: 0, count: 20 - expected.count))
            #expect(try driver.perform(driver.request(.identity, room: 19)).status == 1)
        }
    }

    @Test("a read-only disk is not written, whether or not the driver takes note", arguments: [true, false])
    func readOnly(takesNote: Bool) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, path) = try rig.file(readOnly: true)
        let disk = rig.disk(device)
        #expect(disk.offer.features.contains(VirtioFeatures.Block.readOnly))
        #expect(!disk.offer.features.contains(VirtioFeatures.Block.discard))
        var features: VirtioFeatures = .version1
        if takesNote { features.insert(VirtioFeatures.Block.readOnly) }
        let driver = try VhostDriver(disk, features: features)
        defer { driver.leave() }
        try driver.start()
        let bytes = Array(repeating: UInt8(0xAA), count: 512)
        #expect(try driver.perform(driver.request(.write, give: bytes)).status == 1)
        #expect(try driver.perform(driver.request(.read, room: 512)).status == 0)
        #expect(try Descriptor.open(path, 0).readToEnd().allSatisfy { $0 == 0 })
    }

    @Test("a discard is of ranges on the disk; none of them, flags or other places are refused")
    func discard() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: RingKind.split.features)
        defer { driver.leave() }
        try driver.start()
        let bytes = Array(repeating: UInt8(0xAA), count: 8192)
        #expect(try driver.perform(driver.request(.write, page: 4, give: bytes)).status == 0)
        func discard(_ ranges: BlockRange...) throws -> UInt8 {
            try driver.perform(driver.request(.discard, give: ranges.flatMap(\.array))).status
        }
        #expect(try discard(BlockRange(sector: 8, sectorCount: 8)) == 0)
        let read = driver.request(.read, page: 8, room: 8192)
        #expect(try driver.perform(read).status == 0)
        #expect(driver.region.bytes(at: read.data, count: 8192) == bytes.prefix(4096) + Array(repeating: 0, count: 4096))
        #expect(try discard() == 1)
        #expect(try discard(BlockRange(sector: 0, sectorCount: 8, flags: 1)) == 2)
        #expect(try discard(BlockRange(sector: 2047, sectorCount: 2)) == 1)
        #expect(try discard(BlockRange(sector: .max, sectorCount: 1)) == 1)
        #expect(try discard(BlockRange(sector: 0, sectorCount: 0)) == 1)
        #expect(try discard(BlockRange(sector: 0, sectorCount: .max)) == 1)
    }

    @Test("what was not agreed to is not supported: flush, discards, zeroes, erasures")
    func notAgreed() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let driver = try VhostDriver(rig.disk(try rig.file().0), features: .version1)
        defer { driver.leave() }
        try driver.start()
        #expect(try driver.perform(driver.request(.flush)).status == 2)
        let range = BlockRange(sector: 0, sectorCount: 8).array
        for kind in [BlockRequestKind.discard, .writeZeroes, .secureErase] {
            #expect(try driver.perform(driver.request(kind, give: range)).status == 2, "\(kind)")
        }
    }

    @Test(
        "a status in memory that only the driver may write is not written, and its request does nothing",
        arguments: RingKind.allCases)
    func readableStatus(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, path) = try rig.file()
        let driver = try VhostDriver(rig.disk(device), features: kind.features)
        defer { driver.leave() }
        try driver.start()
        let place = VhostDriver.dataStart
        BlockRequestHeader(.write, sector: 0).store(driver.region, at: place)
        driver.region.fill(place + 512, count: 513, with: 0xEE)
        var request = VhostDriver.Request()
        for piece in [(0, 16), (512, 512), (1024, 1)] { request.chain.appendReadable(driver.run(place + piece.0, piece.1)) }
        request.status = place + 1024
        #expect(try driver.perform(request) == (0xEE, 0))
        #expect(try Descriptor.open(path, 0).readToEnd().allSatisfy { $0 == 0 })
        #expect(try driver.perform(driver.request(.read, room: 512)) == (0, 513))
    }
}
