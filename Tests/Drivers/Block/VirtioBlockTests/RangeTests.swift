// Discards, zeroes and erasures: several ranges a request, each of which must be right before the first is done.

import Connectors
import BlockDevices
import LinuxSystem
import ScriptedDevices
import SharedMemory
import TestSupport
import Testing
import VirtioRing
import VirtioWire

@testable import VirtioBlock

@Suite("virtio disk: ranges") struct RangeTests {
    private static let features = RingKind.split.features.union([
        VirtioFeatures.Block.writeZeroes, VirtioFeatures.Block.secureErase,
    ])

    private func perform(_ driver: VhostDriver, _ kind: BlockRequestKind, _ ranges: [BlockRange]) throws -> UInt8 {
        let (status, written) = try driver.perform(driver.request(kind, give: ranges.flatMap(\.array)))
        #expect(written == 1)
        return status
    }

    /// A disk that can do all, and holds nothing.
    private func capable(isReadOnly: Bool = false, answer: @escaping @Sendable (DeviceOperation) -> DeviceResult? = { _ in .done })
        -> ScriptedDisk
    {
        ScriptedDisk(
            BlockGeometry(
                byteCount: 4 << 20, logicalSectorSize: 4096, physicalSectorSize: 4096, isReadOnly: isReadOnly,
                discard: DiscardLimits(granularity: 8192, secure: true), zeroes: .canUnmap), immediate: answer)
    }

    @Test("ranges become zero, and nothing beside them", arguments: RingKind.allCases)
    func zeroes(kind: RingKind) throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let (device, path) = try rig.file()
        let driver = try VhostDriver(rig.disk(device), features: kind.features.union(VirtioFeatures.Block.writeZeroes))
        defer { driver.leave() }
        try driver.start()
        for sector in stride(from: UInt64(0), to: 2048, by: 16) {
            let write = driver.request(.write, sector: sector, page: 4, give: Array(repeating: 7, count: 8192))
            #expect(try driver.perform(write).status == 0)
        }
        let ranges = [
            BlockRange(sector: 1, sectorCount: 3), BlockRange(sector: 2047, sectorCount: 1, flags: 1),
            BlockRange(sector: 100, sectorCount: 1000, flags: 1), BlockRange(sector: 1200, sectorCount: 9),
        ]
        #expect(try perform(driver, .writeZeroes, ranges) == 0)
        let bytes = try Descriptor.open(path, 0).readToEnd()
        let wrong = (0..<2048).filter { sector in
            let isIn = ranges.contains { ($0.sector..<$0.sector + UInt64($0.sectorCount)).contains(UInt64(sector)) }
            return !bytes[sector * 512..<sector * 512 + 512].allSatisfy { $0 == (isIn ? 0 : 7) }
        }
        #expect(wrong.isEmpty)
    }

    @Test("one wrong range among right ones, and none of them is done")
    func wrongRanges() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = capable()
        let driver = try VhostDriver(rig.disk(disk), features: Self.features)
        defer { driver.leave() }
        try driver.start()
        let good = BlockRange(sector: 8, sectorCount: 8)
        let last: UInt64 = 8192
        let bad = [
            BlockRange(sector: last, sectorCount: 8), BlockRange(sector: last - 8, sectorCount: 16),
            BlockRange(sector: .max, sectorCount: 8),
            BlockRange(sector: 1 << 55, sectorCount: 8), BlockRange(sector: 0, sectorCount: 0),
            BlockRange(sector: 0, sectorCount: .max),
            // The blocks are of 4096 bytes.
            BlockRange(sector: 4, sectorCount: 8), BlockRange(sector: 8, sectorCount: 4),
        ]
        for kind in [BlockRequestKind.discard, .writeZeroes, .secureErase] {
            for range in bad {
                #expect(try perform(driver, kind, [good, range]) == 1, "\(kind) \(range)")
                #expect(try perform(driver, kind, [range, good]) == 1, "\(kind) \(range)")
            }
            #expect(try perform(driver, kind, []) == 1)
            #expect(try perform(driver, kind, Array(repeating: good, count: 17)) == 1)
            let unknown: [UInt32] = kind == .writeZeroes ? [2, 3, 1 << 31] : [1, 2, 1 << 31]
            for flags in unknown {
                #expect(
                    try perform(driver, kind, [good, BlockRange(sector: 8, sectorCount: 8, flags: flags)]) == 2, "\(kind) \(flags)")
            }
            for part in [1, 15, 17, 31] {
                let request = driver.request(kind, give: Array((good.array + good.array).prefix(part)))
                #expect(try driver.perform(request) == (1, 1))
            }
            // Room for data, which a request of ranges has no use for.
            #expect(try driver.perform(driver.request(kind, give: good.array, room: 512)).status == 1)
        }
        #expect(disk.operations == [])
    }

    @Test("ranges are done in their order, as what was asked for, and the first that fails is the last")
    func order() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = capable { operation in
            if case .writeZeroes(16384, _, _) = operation { .failed(.ioError) } else { .done }
        }
        let driver = try VhostDriver(rig.disk(disk), features: Self.features)
        defer { driver.leave() }
        try driver.start()
        let ranges = (0..<16).map { BlockRange(sector: UInt64($0) * 8, sectorCount: 8) }
        #expect(try perform(driver, .discard, ranges) == 0)
        #expect(try perform(driver, .secureErase, Array(ranges.prefix(2))) == 0)
        var zeroes = Array(ranges.prefix(6))
        zeroes[1].flags = BlockRange.mayUnmap
        #expect(try perform(driver, .writeZeroes, zeroes) == 1)
        let discards = (0..<16).map { DeviceOperation.discard(offset: UInt64($0) * 4096, byteCount: 4096, secure: false) }
        let erasures = (0..<2).map { DeviceOperation.discard(offset: UInt64($0) * 4096, byteCount: 4096, secure: true) }
        let made = (0..<5).map { DeviceOperation.writeZeroes(offset: UInt64($0) * 4096, byteCount: 4096, mayUnmap: $0 == 1) }
        #expect(disk.operations == discards + erasures + made)
    }

    @Test("zeroes of a driver that knows no flush are durable before they are answered")
    func writeThrough() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = capable()
        let driver = try VhostDriver(rig.disk(disk), features: [.version1, VirtioFeatures.Block.writeZeroes])
        defer { driver.leave() }
        try driver.start()
        let ranges = (0..<2).map { BlockRange(sector: UInt64($0) * 8, sectorCount: 8) }
        #expect(try perform(driver, .writeZeroes, ranges) == 0)
        let made = (0..<2).map { DeviceOperation.writeZeroes(offset: UInt64($0) * 4096, byteCount: 4096, mayUnmap: false) }
        #expect(disk.operations == [.flush] + made + [.flush])
    }

    @Test("what the disk turns out not to know it is not asked for again, and the rest goes on")
    func withdrawn() throws {
        let rig = try DiskRig()
        defer { rig.stop() }
        let disk = capable { operation in
            if case .writeZeroes = operation { .failed(.notSupported) } else { .done }
        }
        let driver = try VhostDriver(rig.disk(disk), features: Self.features)
        defer { driver.leave() }
        try driver.start()
        let ranges = [BlockRange(sector: 0, sectorCount: 8), BlockRange(sector: 8, sectorCount: 8)]
        for _ in 0..<3 { #expect(try perform(driver, .writeZeroes, ranges) == 2) }
        #expect(try perform(driver, .discard, ranges) == 0)
        #expect(try driver.perform(driver.request(.flush)).status == 0)
        #expect(disk.operations.count == 4, "\(disk.operations)")
    }

    @Test("what a disk cannot do, what its owner keeps, and what is read-only is not offered, and not done if asked for")
    func offers() throws {
        let block = VirtioFeatures.Block.self
        let all: VirtioFeatures = [block.discard, block.writeZeroes, block.secureErase]
        let plain = BlockGeometry(byteCount: 1 << 20, discard: DiscardLimits(granularity: 512), zeroes: .keepsRoom)
        let cases: [(BlockGeometry, offersDiscard: Bool, VirtioFeatures, unmaps: UInt8)] = [
            (BlockGeometry(byteCount: 1 << 20), true, [], 0), (plain, true, [block.discard, block.writeZeroes], 0),
            (plain, false, block.writeZeroes, 0), (capable().geometry, true, all, 1),
            (capable().geometry, false, block.writeZeroes, 0),
            (capable(isReadOnly: true).geometry, true, [], 1),
        ]
        for (geometry, offersDiscard, features, unmaps) in cases {
            let offer = VirtioBlockOffer(queues: 1, identity: "", offersDiscard: offersDiscard)
            #expect(offer.features(geometry).intersection(all) == features, "\(geometry)")
            let configuration = offer.configuration(geometry)
            #expect(configuration.writeZeroesMayUnmap == unmaps)
            if features.contains(block.secureErase) { #expect(configuration.maxSecureEraseSegments == 16) }
            let rules = VirtioBlockRules(geometry, features, mayUnmap: offer.mayUnmap(geometry))
            for (kind, bit) in [
                (BlockRequestKind.discard, block.discard), (.writeZeroes, block.writeZeroes), (.secureErase, block.secureErase),
            ] {
                #expect(rules.knows(kind) == features.contains(bit))
            }
            guard rules.hasZeroes else { continue }
            let asked = rules.verdict(.writeZeroes, BlockRange(sector: 0, sectorCount: 8, flags: 1))
            #expect(asked == .operation(.writeZeroes(offset: 0, byteCount: 4096, mayUnmap: unmaps == 1)))
        }
        // A driver that takes a read-only disk for one that can be written.
        let rules = VirtioBlockRules(capable(isReadOnly: true).geometry, all)
        for kind in [BlockRequestKind.discard, .writeZeroes, .secureErase] {
            #expect(rules.verdict(kind, BlockRange(sector: 0, sectorCount: 8)) == .refused(.failed))
        }
    }
}
