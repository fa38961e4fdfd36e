// Data, whole: through page lists of every form, formats of two sizes, and controllers with every limit.

import BlockDevices
import DMA
import LinuxSystem
import NVMeModel
import Testing
import TestSupport

@Suite struct NVMeTransferTests {
    /// A controller's limits and a namespace's format.
    struct Kind: Sendable, CustomTestStringConvertible {
        var transferShift: UInt8
        var blockShift: Int
        var doorbellShift = 0
        var queueEntries = 2048
        var vectors = 5
        var isScattered = false
        var testDescription: String {
            "MDTS \(transferShift), 2^\(blockShift), DSTRD \(doorbellShift), \(queueEntries) entries, \(vectors) vectors"
                + (isScattered ? ", scattered" : "")
        }
    }
    static let kinds = [
        Kind(transferShift: 7, blockShift: 9), Kind(transferShift: 3, blockShift: 12), Kind(transferShift: 0, blockShift: 9),
        Kind(transferShift: 1, blockShift: 9, doorbellShift: 2),
        Kind(transferShift: 0, blockShift: 12, queueEntries: 8, vectors: 1),
        Kind(transferShift: 9, blockShift: 12, queueEntries: 2),
        Kind(transferShift: 7, blockShift: 9, isScattered: true),
        Kind(transferShift: 0, blockShift: 12, queueEntries: 8, isScattered: true),
        Kind(transferShift: 1, blockShift: 9, queueEntries: 2, vectors: 1, isScattered: true),
    ]

    static func settings(_ kind: Kind) -> ModelSettings {
        var settings = ModelSettings()
        settings.namespaces = [3: (kind.blockShift, (8 << 20) >> kind.blockShift, 0)]
        settings.transferShift = kind.transferShift
        settings.doorbellShift = kind.doorbellShift
        settings.queueEntries = kind.queueEntries
        settings.vectors = kind.vectors
        settings.isScattered = kind.isScattered
        return settings
    }

    /// Random pieces of the region that are whole blocks together and can be cut at blocks: each a multiple of one.
    static func segments(_ harness: NVMeHarness, _ block: Int, _ random: inout SplitMix, most: Int) -> [BusSegment] {
        var segments: [BusSegment] = []
        var left = Int.random(in: 1...most, using: &random)
        while left > 0 {
            let count = min(
                left, Bool.random(using: &random) ? Int.random(in: 1...4, using: &random) : Int.random(in: 1...64, using: &random))
            // A gap here and there, a neighbour here and there; whole pages now and then.
            let alignment = Bool.random(using: &random) ? 4096 : 4
            let room = harness.region.byteCount - count * block
            segments.append(harness.segment(Int.random(in: 0...room, using: &random) / alignment * alignment, count * block))
            left -= count
        }
        return segments
    }

    static func bytes(_ harness: NVMeHarness, _ segments: [BusSegment]) -> [UInt8] {
        segments.flatMap { harness.region.bytes(at: Int($0.address.rawValue - harness.base.rawValue), count: Int($0.byteCount)) }
    }

    @Test(arguments: kinds) func random(_ kind: Kind) throws {
        let harness = try NVMeHarness(Self.settings(kind), pages: 600)
        var random = SplitMix(UInt64(kind.transferShift) << 8 | UInt64(kind.blockShift))
        let block = 1 << kind.blockShift
        let size = Int(harness.disk.geometry.byteCount)
        var expected = [UInt8](repeating: 0, count: size)
        // A prime number of them: the same bytes come again at no block's distance.
        let noise = (0..<65521).map { _ in UInt8.random(in: 0...255, using: &random) }
        for round in 0..<40 {
            let segments = Self.segments(harness, block, &random, most: (1 << 20) >> kind.blockShift)
            let total = segments.reduce(0) { $0 + Int($1.byteCount) }
            let offset = Int.random(in: 0...(size - total) / block, using: &random) * block
            if round % 2 == 0 {
                for segment in segments {
                    var place = Int(segment.address.rawValue - harness.base.rawValue)
                    var left = Int(segment.byteCount)
                    while left > 0 {
                        let start = Int.random(in: 0..<60000, using: &random)
                        let part = Array(noise[start..<min(noise.count, start + left)])
                        harness.region.write(part, at: place)
                        place += part.count
                        left -= part.count
                    }
                }
                let written = Self.bytes(harness, segments)
                #expect(try harness.perform(.write(offset: UInt64(offset)), segments) == .done)
                expected.replaceSubrange(offset..<offset + total, with: written)
            } else {
                harness.region.fill(0, count: harness.region.byteCount, with: 0xEE)
                // Where pieces of a read overlap, what is there last is not told.
                let apart = segments.indices.map { one in
                    !segments.indices.contains { $0 != one && overlap(segments[$0], segments[one]) }
                }
                #expect(try harness.perform(.read(offset: UInt64(offset)), segments) == .done)
                var place = offset
                for (segment, isApart) in zip(segments, apart) {
                    let part = expected[place..<place + Int(segment.byteCount)]
                    if isApart { expectSame(Self.bytes(harness, [segment]), part, "round \(round)") }
                    place += Int(segment.byteCount)
                }
            }
        }
        expectSame(harness.model.contents(3), expected)
        #expect(harness.model.violations == [])
        harness.close()
        #expect(harness.model.memoryModel.count == 1)
    }

    private func overlap(_ a: BusSegment, _ b: BusSegment) -> Bool {
        a.address.rawValue < b.address.rawValue + UInt64(b.byteCount)
            && b.address.rawValue < a.address.rawValue + UInt64(a.byteCount)
    }

    /// The second page is named as soon as bytes are in it, and no list is made for two pages.
    @Test func secondPage() throws {
        let harness = try NVMeHarness()
        #expect(try harness.perform(.read(offset: 0), [harness.segment(512, 4096)]) == .done)
        #expect(try harness.perform(.read(offset: 0), [harness.segment(512, 3584)]) == .done)
        #expect(try harness.perform(.read(offset: 0), [harness.segment(512, 8192)]) == .done)
        let commands = harness.model.commands
        let start = harness.base.rawValue
        #expect(commands[0].prp1 == start + 512)
        #expect(commands[0].prp2 == start + 4096)
        #expect(commands[1].prp2 == 0)
        #expect(commands[2].prp2 != start + 4096)
        #expect(harness.model.violations == [])
        harness.close()
    }

    /// Forced unit access: on every command of a transfer, and on no other.
    @Test func durableWrites() throws {
        var settings = ModelSettings()
        settings.transferShift = 1
        let harness = try NVMeHarness(settings)
        #expect(harness.disk.geometry.writesDurably)
        #expect(try harness.perform(.write(offset: 0, isDurable: true), [harness.segment(0, 20480)]) == .done)
        #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 4096)]) == .done)
        #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 4096)]) == .done)
        // Each part of the first.
        #expect(harness.model.commands.map(\.isForced) == [true, true, true, false, false])
        harness.close()
    }

    /// Without a cache there is nothing to ask for.
    @Test func durableWithoutACache() throws {
        var settings = ModelSettings()
        settings.hasCache = false
        let harness = try NVMeHarness(settings)
        #expect(!harness.disk.geometry.writesDurably && !harness.disk.geometry.canFlush)
        #expect(try harness.perform(.write(offset: 0, isDurable: true), [harness.segment(0, 4096)]) == .done)
        harness.close()
    }

    /// A gap is a border between two commands.
    @Test func gaps() throws {
        let harness = try NVMeHarness()
        let segments = [
            harness.segment(0, 512), harness.segment(8192, 512), harness.segment(8704, 512), harness.segment(20480, 4096),
        ]
        #expect(try harness.perform(.write(offset: 4096), segments) == .done)
        #expect(harness.model.commands.map(\.block) == [8, 9, 11])
        #expect(harness.model.commands.map(\.count) == [1, 2, 8])
        harness.close()
    }

    /// A gap in a block cannot be cut, and addresses have two zero bits: refused, and nothing is written.
    @Test func unservable() throws {
        var settings = ModelSettings()
        settings.namespaces = [1: (12, 1024, 0)]
        let harness = try NVMeHarness(settings)
        let halves = [harness.segment(0, 2048), harness.segment(8192, 2048)]
        #expect(try harness.perform(.write(offset: 0), halves) == .failed(.invalidArgument))
        #expect(try harness.perform(.write(offset: 0), [harness.segment(2, 4096)]) == .failed(.invalidArgument))
        #expect(try harness.perform(.write(offset: 512), [harness.segment(0, 4096)]) == .failed(.invalidArgument))
        #expect(
            try harness.perform(.read(offset: 0), [BusSegment(address: BusAddress(rawValue: 0x1000), byteCount: 4096)])
                == .failed(.badAddress))
        #expect(try harness.perform(.read(offset: 0), [harness.segment(harness.region.byteCount - 4096, 4096)]) == .done)
        #expect(harness.model.commands.count == 1)
        harness.close()
    }

    /// More than 256 completions: the phase changes, and changes back.
    @Test func phases() throws {
        let harness = try NVMeHarness()
        for index in 0..<700 {
            #expect(try harness.perform(index % 2 == 0 ? .write(offset: 0) : .read(offset: 0), [harness.segment(0, 512)]) == .done)
        }
        #expect(harness.model.violations == [])
        harness.close()
    }

    /// Never more than 63 commands under way, whatever is asked for, and all of them end.
    @Test func full() throws {
        let harness = try NVMeHarness()
        harness.model.whenCommand { _ in .hold }
        let tags = (0..<200).map { harness.begin(.write(offset: UInt64($0) * 512), [harness.segment($0 * 512, 512)]) }
        #expect(eventually { harness.model.held.count == 63 })
        #expect(harness.inFlight == 200)
        harness.model.whenCommand { _ in .perform }
        harness.model.finish(reversed: true)
        for tag in tags { #expect(try harness.wait(tag) == .done) }
        #expect(harness.model.violations == [])
        #expect(harness.inFlight == 0)
        harness.close()
    }

    /// Ranges longer than a command's.
    @Test func ranges() throws {
        var settings = ModelSettings()
        settings.transferShift = 1
        let harness = try NVMeHarness(settings)
        harness.region.fill(0, count: 65536, with: 7)
        #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 65536)]) == .done)
        #expect(try harness.perform(.writeZeroes(offset: 512, byteCount: 32768, mayUnmap: true)) == .done)
        #expect(try harness.perform(.discard(offset: 40960, byteCount: 8192, secure: false)) == .done)
        #expect(try harness.perform(.discard(offset: 40960, byteCount: 8192, secure: true)) == .failed(.notSupported))
        #expect(try harness.perform(.flush) == .done)
        let contents = harness.model.contents(1)
        #expect(contents[511] == 7 && contents[512..<33280].allSatisfy { $0 == 0 } && contents[33280] == 7)
        #expect(contents[40959] == 7 && contents[40960..<49152].allSatisfy { $0 == 0 } && contents[49152] == 7)
        let commands = harness.model.commands
        #expect(commands.filter { $0.opcode == 8 }.allSatisfy { $0.words[2] >> 25 & 1 == 1 })
        #expect(commands.last?.opcode == 0 && commands.last?.namespace == 1)
        #expect(harness.model.violations == [])
        harness.close()
    }

    /// What is taken off the bus is the controller's until what has begun has ended.
    @Test func memoryStays() throws {
        let harness = try NVMeHarness()
        harness.model.whenCommand { $0.isIO ? .hold : .perform }
        let tag = harness.begin(.read(offset: 0), [harness.segment(0, 4096)])
        #expect(eventually { harness.model.held.count == 1 })
        harness.reactor.run { harness.bus.detach(harness.region) }
        // The admin queue's, the queue's and the region.
        #expect(harness.model.memoryModel.count == 3)
        harness.model.finish()
        #expect(try harness.wait(tag) == .done)
        #expect(eventually { harness.model.memoryModel.count == 2 })
        #expect(harness.model.violations == [])
        #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 4096)]) == .failed(.badAddress))
        harness.close()
    }
}
