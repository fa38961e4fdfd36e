// attacks.md PM17, PM18 and PM20: transfers that fail half-way, are synchronized wrongly, or are cut wrongly.

import FrameMaps
import SharedMemory
import TestSupport
import Testing

@testable import DMA

@Suite(.timeLimit(.minutes(1)))
struct TransferAttackTests {
    private func piece(_ base: Pfn, _ page: UInt64, _ offset: UInt32 = 0, _ byteCount: UInt32 = 4096) throws -> PagePiece {
        PagePiece(pfn: try #require(base.advanced(by: page)), offset: offset, byteCount: byteCount)
    }

    /// attacks.md PM17: the mapping fails at each of its pieces in turn, for each reason; whatever was taken for the
    /// pieces before is back.
    @Test(arguments: [nil, IommuMode.strict, .deferred])
    func PM17_aFailureHalfWayLeaksNothing(_ mode: IommuMode?) throws {
        let constraints = DMAConstraints(mask: mode == nil ? 0xFFFF_FFFF : .max, minimumAlignment: 512, isUntrusted: true)
        let options = DMAOptions(model: .p2m, iommu: mode, constraints: constraints, bouncePool: 1 << 16)
        let device = try DMADevice(name: "d", options: options)
        let base = try #require(device.attach(try SharedRegion(anonymous: 8 * 4096)))
        let memory = try SharedRegion(anonymous: 4096)
        let sealed = unsafe SharedRegion(adopting: memory.unsafeBase, byteCount: 4096, writable: false) { _, _ in }
        let readOnly = try #require(device.attach(sealed))
        let good = try (0..<8 as Range<UInt64>).map { try piece(base, $0, 512, 1024) }
        let bad = [
            try piece(base, 5_000_000), try piece(readOnly, 0), try piece(base, 0, 4095, 2), try piece(base, 0, 0, 0),
        ]
        var segments: [BusSegment] = []
        let free = device.iommu?.freePages
        for wrong in bad {
            for place in 0...good.count {
                var pieces = good
                pieces.insert(wrong, at: place)
                #expect(throws: DMAError.self) { _ = try device.map(pieces.span, .fromDevice, into: &segments) }
                #expect(segments.isEmpty && device.pool?.slotsInUse == 0 && device.liveMappings == 0)
            }
        }
        // More than the pool holds: the pieces before the one that does not fit go back as well.
        let large = try (0..<40 as Range<UInt64>).map { try piece(base, $0 % 8, 512, 1024) }
        #expect(throws: DMAError.self) { _ = try device.map(large.span, .fromDevice, into: &segments) }
        #expect(segments.isEmpty && device.pool?.slotsInUse == 0 && device.liveMappings == 0)
        device.iommu?.flush()
        #expect(device.iommu?.freePages == free)
        // And it still works.
        let handle = try device.map(good.span, .fromDevice, into: &segments)
        #expect(device.pool?.slotsInUse ?? 0 >= 8)
        try device.unmap(handle, .fromDevice)
        #expect(device.pool?.slotsInUse == 0)
        withExtendedLifetime(memory) {}
    }

    /// attacks.md PM18: synchronizing beyond the mapping, the wrong way, with a handle of before; each is refused and
    /// no byte of memory changes.
    @Test func PM18_wrongSyncsCopyNothing() throws {
        let options = DMAOptions(model: .p2m, constraints: DMAConstraints(mask: 0xFFFF_FFFF), bouncePool: 1 << 16)
        let device = try DMADevice(name: "d", options: options)
        let region = try SharedRegion(anonymous: 3 * 4096)
        region.write((0..<3 * 4096).map { UInt8(truncatingIfNeeded: $0 &* 7) }, at: 0)
        let before = region.bytes(at: 0, count: 3 * 4096)
        let base = try #require(device.attach(region))
        var segments: [BusSegment] = []
        let handle = try device.map([try piece(base, 1, 100, 1000)].span, .fromDevice, into: &segments)
        for segment in segments {
            let run = try #require(device.bus.resolveRun(segment, .fromDevice))
            run.memory.initializeMemory(as: UInt8.self, repeating: 0xEE, count: Int(run.byteCount))
        }
        for (offset, count) in [(0, 1001), (1000, 1), (1, 1000), (-1, 1), (0, -1), (4096, 0), (5000, 1)] {
            #expect(throws: DMAError.self) { try device.syncForCPU(handle, offset: offset, byteCount: count) }
        }
        #expect(throws: DMAError.wrongDirection) { try device.syncForDevice(handle, offset: 0, byteCount: 1000) }
        #expect(throws: DMAError.wrongDirection) { try device.unmap(handle, .toDevice) }
        expectSame(region.bytes(at: 0, count: 3 * 4096), before)
        try device.unmap(handle, .fromDevice)
        var after = before
        for index in 4196..<5196 { after[index] = 0xEE }
        expectSame(region.bytes(at: 0, count: 3 * 4096), after)
        #expect(throws: DMAError.notMapped) { try device.syncForCPU(handle, offset: 0, byteCount: 1) }
        #expect(throws: DMAError.notMapped) { try device.unmap(handle, .fromDevice) }
        expectSame(region.bytes(at: 0, count: 3 * 4096), after)
    }

    /// attacks.md PM20: every pattern of neighbours (up, down, a gap, the same page twice, a 2 MiB edge), cut by every
    /// boundary: the bytes of the segments in order are those of the pieces, and no run in this process crosses from
    /// one page into one that is not its neighbour.
    @Test(arguments: MemoryModel.allCases, [4096, 8192, 1 << 21] as [UInt64])
    func PM20_scatterListsAreCutRight(_ model: MemoryModel, _ boundary: UInt64) throws {
        var random = SplitMix(20)
        let constraints = DMAConstraints(mask: .max >> 8, boundaryMask: boundary - 1, maximumSegmentSize: 3 << 11)
        let device = try DMADevice(name: "d", options: DMAOptions(model: model, constraints: constraints))
        let pages = 600
        let region = try SharedRegion(anonymous: pages * 4096)
        for page in 0..<pages { region.write([UInt8(page & 255), UInt8(page >> 8)], at: page * 4096 + 2046) }
        let base = try #require(device.attach(region))
        let patterns: [[UInt64]] = [
            [0, 1, 2, 3], [3, 2, 1, 0], [0, 2, 4], [7, 7, 7], [510, 511, 512, 513], [511, 510, 512], [599], [0, 599, 1],
            (0..<11).map { _ in UInt64.random(in: 0..<600, using: &random) },
        ]
        for pattern in patterns {
            let first = try pattern.map { try piece(base, $0) }
            var segments: [BusSegment] = []
            let handle = try device.map(first.span, .toDevice, into: &segments)
            var seen: [UInt8] = []
            for segment in segments {
                #expect(segment.byteCount <= 3 << 11)
                #expect(
                    segment.address.rawValue / boundary == (segment.address.rawValue + UInt64(segment.byteCount) - 1) / boundary)
                var rest = segment
                while rest.byteCount > 0 {
                    let run = try #require(device.bus.resolveRun(rest, .toDevice))
                    seen += (0..<Int(run.byteCount)).map { run.memory.load(fromByteOffset: $0, as: UInt8.self) }
                    rest.byteCount -= run.byteCount
                    if rest.byteCount > 0 { rest.address = try #require(rest.address.advanced(by: UInt64(run.byteCount))) }
                }
            }
            expectSame(seen, pattern.flatMap { region.bytes(at: Int($0) * 4096, count: 4096) })
            try device.unmap(handle, .toDevice)
        }
        var none: [BusSegment] = []
        #expect(throws: DMAError.self) { _ = try device.map([try piece(base, 0, 0, 0)].span, .toDevice, into: &none) }
        #expect(none.isEmpty)
    }
}
