// Every kind of disk against a model in memory: random, seeded operations, several in flight, over scattered and oddly
// aligned pages.

@testable import BlockDevices
@testable import DMA
import Foundation
import LinuxSystem
import Testing
import TestSupport

/// What a disk must hold; nil where a discard left it open.
struct DiskModel {
    var bytes: [UInt8?]
    init(byteCount: Int) { bytes = .init(repeating: 0, count: byteCount) }
}

struct RandomOperations {
    let harness: DiskHarness
    var model: DiskModel
    var generator: SplitMix
    let sector: Int
    /// What a discarded range reads as, if that is defined.
    let discardReads: UInt8?
    static let slots = 8
    static let slotBytes = 64 * 1024

    init(_ disk: any BlockDevice, seed: UInt64, discardReads: UInt8?) throws {
        harness = try DiskHarness(disk, pages: Self.slots * Self.slotBytes / 4096 * 2, depth: 4)
        model = DiskModel(byteCount: Int(disk.geometry.byteCount))
        sector = Int(disk.geometry.logicalSectorSize)
        generator = SplitMix(seed)
        self.discardReads = discardReads
    }

    private struct Pending {
        var tag: UInt32
        var range: Range<Int>
        var segments: [BusSegment]
        var isRead: Bool
    }

    /// Random pieces of a slot's memory, every other one left out, so that some merge and some do not; 512-byte
    /// granular like blkif's.
    private mutating func scatter(_ slot: Int, _ count: Int) -> [BusSegment] {
        var segments: [BusSegment] = []
        var offset = slot * Self.slotBytes * 2 + Int.random(in: 0..<8, using: &generator) * 512
        var left = count
        while left > 0 {
            let piece = min(left, Int.random(in: 1...16, using: &generator) * 512)
            segments.append(harness.segment(offset, piece))
            offset +=
                piece + (Bool.random(using: &generator) && offset + piece + left + 512 < (slot + 1) * Self.slotBytes * 2 ? 512 : 0)
            left -= piece
        }
        return segments
    }

    private func offset(of segment: BusSegment) -> Int { Int(segment.address.rawValue - harness.base.rawValue) }

    mutating func run(rounds: Int) throws {
        for round in 0..<rounds {
            var pending: [Pending] = []
            for slot in 0..<Self.slots {
                let sectors = Int.random(in: 1...(Self.slotBytes / 2 / sector), using: &generator)
                let start = Int.random(in: 0...(model.bytes.count / sector - sectors), using: &generator) * sector
                let range = start..<(start + sectors * sector)
                if pending.contains(where: { $0.range.overlaps(range) }) { continue }
                switch Int.random(in: 0..<11, using: &generator) {
                case 0..<5: pending.append(beginWrite(slot, range))
                case 5..<8: pending.append(beginRead(slot, range))
                case 8 where harness.disk.geometry.discard != nil: pending.append(beginDiscard(range))
                case 9 where harness.disk.geometry.zeroes != nil: pending.append(beginZeroes(range))
                default: pending.append(Pending(tag: harness.begin(.flush, []), range: 0..<0, segments: [], isRead: false))
                }
            }
            for operation in pending {
                try #require(try harness.wait(operation.tag) == .done, "round \(round)")
                if operation.isRead { try check(operation, round) }
            }
        }
        try checkAll()
    }

    private mutating func beginWrite(_ slot: Int, _ range: Range<Int>) -> Pending {
        let segments = scatter(slot, range.count)
        var position = range.lowerBound
        for segment in segments {
            let data = (0..<Int(segment.byteCount)).map { _ in UInt8.random(in: 0...255, using: &generator) }
            harness.region.write(data, at: offset(of: segment))
            for byte in data {
                model.bytes[position] = byte
                position += 1
            }
        }
        let tag = harness.begin(.write(offset: UInt64(range.lowerBound)), segments)
        return Pending(tag: tag, range: range, segments: segments, isRead: false)
    }

    private mutating func beginRead(_ slot: Int, _ range: Range<Int>) -> Pending {
        let segments = scatter(slot, range.count)
        for segment in segments { harness.region.fill(offset(of: segment), count: Int(segment.byteCount), with: 0x5A) }
        let tag = harness.begin(.read(offset: UInt64(range.lowerBound)), segments)
        return Pending(tag: tag, range: range, segments: segments, isRead: true)
    }

    private mutating func beginDiscard(_ range: Range<Int>) -> Pending {
        for position in range { model.bytes[position] = discardReads }
        let operation = DeviceOperation.discard(offset: UInt64(range.lowerBound), byteCount: UInt64(range.count), secure: false)
        return Pending(tag: harness.begin(operation, []), range: range, segments: [], isRead: false)
    }

    private mutating func beginZeroes(_ range: Range<Int>) -> Pending {
        for position in range { model.bytes[position] = 0 }
        let operation = DeviceOperation.writeZeroes(
            offset: UInt64(range.lowerBound), byteCount: UInt64(range.count), mayUnmap: Bool.random(using: &generator))
        return Pending(tag: harness.begin(operation, []), range: range, segments: [], isRead: false)
    }

    private func check(_ operation: Pending, _ round: Int) throws {
        var position = operation.range.lowerBound
        for segment in operation.segments {
            let found = harness.region.bytes(at: offset(of: segment), count: Int(segment.byteCount))
            for byte in found {
                if let expected = model.bytes[position], expected != byte {
                    try #require(expected == byte, "byte \(position) in round \(round)")
                }
                position += 1
            }
        }
    }

    private func checkAll() throws {
        for start in stride(from: 0, to: model.bytes.count, by: Self.slotBytes) {
            let count = min(Self.slotBytes, model.bytes.count - start)
            let (result, bytes) = try harness.read(count, at: UInt64(start))
            try #require(result == .done)
            for index in 0..<count {
                if let expected = model.bytes[start + index], expected != bytes[index] {
                    try #require(expected == bytes[index], "byte \(start + index)")
                }
            }
        }
    }
}

@Suite(.timeLimit(.minutes(2)))
struct RandomOperationsTests {
    private func run(_ disk: any BlockDevice, seed: UInt64, discardReads: UInt8?, rounds: Int = 60) throws {
        var operations = try RandomOperations(disk, seed: seed, discardReads: discardReads)
        defer { operations.harness.close() }
        try operations.run(rounds: rounds)
        #expect(operations.harness.bus.flightCount == 0)
    }

    @Test(arguments: [DirectIO.never, .preferred]) func file(direct: DirectIO) throws {
        let directory = try TemporaryDirectory()
        let disk = try FileDisk(path: try directory.file(byteCount: 512 * 1024), direct: direct)
        try run(disk, seed: 1, discardReads: 0)
    }

    @Test func fileInMemory() throws {
        let directory = try TemporaryDirectory(in: "/dev/shm")
        try run(try FileDisk(path: try directory.file(byteCount: 512 * 1024)), seed: 2, discardReads: 0)
    }

    @Test(.enabled(if: canUseLoopDevices, "needs root and loop devices"), arguments: [512, 4096], [DirectIO.never, .required])
    func loopDevice(sectorSize: Int, direct: DirectIO) throws {
        let loop = try LoopDevice(byteCount: 512 * 1024, sectorSize: sectorSize)
        let disk = try FileDisk(path: loop.path, direct: direct)
        #expect(disk.isBlockDevice && disk.usesDirectIO == (direct == .required))
        #expect(disk.geometry.logicalSectorSize == sectorSize)
        try run(disk, seed: 3, discardReads: nil)
    }

    @Test func nbdServer() throws {
        let server = try NBDServer(["memory", "512K"])
        try run(try NBDDisk(uri: server.uri, time: .system), seed: 4, discardReads: nil)
    }
}
