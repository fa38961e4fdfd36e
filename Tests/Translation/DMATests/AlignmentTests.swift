// Devices that need their segments aligned, by more than a page, too: behind an IOMMU, where runs are cut, in the pool
// and in coherent memory.

import FrameMaps
import SharedMemory
import TestSupport
import Testing

@testable import DMA

private let kinds: [DMAOptions] = [512, 4096, 8192, 65536, 1 << 20].flatMap { alignment in
    [(MemoryModel.p2m, IommuMode?.none), (.p2m, .strict), (.identity, .deferred), (.vp, .strict), (.identity, .none)].flatMap {
        (model, iommu) in
        [
            DMAConstraints(minimumAlignment: alignment), DMAConstraints(maximumSegmentSize: 20_000, minimumAlignment: alignment),
            DMAConstraints(boundaryMask: 0xFFFF, maximumSegmentSize: 1000, minimumAlignment: alignment),
            DMAConstraints(maximumSegments: 2, minimumAlignment: alignment, isUntrusted: true),
        ].map { DMAOptions(model: model, iommu: iommu, constraints: $0, bouncePool: 16 << 20) }
    }
}

@Suite(.timeLimit(.minutes(2)))
struct AlignmentTests {
    private func check(_ segments: [BusSegment], _ limits: DMAConstraints, _ total: Int) {
        #expect(segments.reduce(0) { $0 + Int($1.byteCount) } == total && segments.count <= limits.maximumSegments)
        for segment in segments {
            let last = segment.address.rawValue + UInt64(segment.byteCount) - 1
            #expect(segment.address.rawValue & UInt64(limits.minimumAlignment - 1) == 0, "\(segment) of \(segments)")
            #expect(segment.byteCount <= limits.maximumSegmentSize && last <= limits.mask)
            #expect(segment.address.rawValue | limits.boundaryMask == last | limits.boundaryMask)
        }
    }

    @Test(arguments: kinds)
    func segmentsAreAligned(_ options: DMAOptions) throws {
        var random = SplitMix(5)
        let device = try DMADevice(name: "d", options: options)
        let region = try SharedRegion(anonymous: 16 * 4096)
        for page in 0..<16 { region.fill(page * 4096, count: 4096, with: UInt8(page + 1)) }
        let base = try #require(device.attach(region))
        let copy = try SharedRegion(anonymous: 16 * 4096)
        var good = 0
        for _ in 0..<30 {
            let first = UInt64.random(in: 0..<16, using: &random)
            var pieces = (first..<min(16, first + UInt64.random(in: 1...8, using: &random))).map {
                PagePiece(pfn: base.advanced(by: $0)!, offset: 0, byteCount: 4096)
            }
            // A head and a tail that do not fill their pages.
            if Bool.random(using: &random) {
                let offset = UInt32.random(in: 0..<4096, using: &random)
                pieces[0] = PagePiece(pfn: pieces[0].pfn, offset: offset, byteCount: 4096 - offset)
            }
            if Bool.random(using: &random) {
                pieces[pieces.count - 1].byteCount = UInt32.random(in: 1...pieces.last!.byteCount, using: &random)
            }
            let total = pieces.reduce(0) { $0 + Int($1.byteCount) }
            var segments: [BusSegment] = []
            do throws(DMAError) {
                let handle = try device.map(pieces.span, .toDevice, into: &segments)
                check(segments, options.constraints, total)
                // In the order of the pieces, each byte where it belongs.
                var done = 0
                for segment in segments {
                    let isRead = device.bus.read(segment, into: copy, at: done)
                    #expect(isRead, "\(segment)")
                    done += Int(segment.byteCount)
                }
                let wanted = pieces.flatMap { piece in
                    [UInt8](repeating: UInt8(piece.pfn.rawValue - base.rawValue + 1), count: Int(piece.byteCount))
                }
                #expect(copy.bytes(at: 0, count: total) == wanted)
                try device.unmap(handle, .toDevice)
                good += 1
            } catch {
                // A piece that may not be cut: its segments would have to begin where none may.
                #expect(options.constraints.segmentLimit < UInt64(options.constraints.minimumAlignment), "\(error)")
                #expect(error == .needsBounce(.alignment) && segments.isEmpty)
            }
        }
        let canBeCut = options.constraints.segmentLimit >= UInt64(options.constraints.minimumAlignment)
        #expect(good > 0 || !canBeCut)
        #expect(device.liveMappings == 0 && device.pool?.slotsInUse == 0)
        device.iommu?.flush()
        #expect(device.iommu?.tableByteCount ?? 0 == 0)
    }

    /// What bounces keeps the bits of its place that the device reads out of addresses, above those that are to be 0;
    /// said slowly, bit by bit.
    @Test(arguments: [UInt64(511), 4095], [UInt32(1), 4, 1024])
    func bouncedPiecesKeepTheirBits(_ mask: UInt64, _ alignment: UInt32) throws {
        for (mode, model) in [(IommuMode?.none, MemoryModel.p2m), (.none, .vp), (.strict, .p2m)] {
            for most in [Int.max, 1] {
                let limits = DMAConstraints(
                    maximumSegments: most, keptAddressMask: mask, minimumAlignment: alignment, isUntrusted: true)
                let device = try DMADevice(
                    name: "d", options: DMAOptions(model: model, iommu: mode, constraints: limits, bouncePool: 1 << 20))
                let region = try SharedRegion(anonymous: 4 * 4096)
                for page in 0..<4 { region.fill(page * 4096, count: 4096, with: UInt8(page + 1)) }
                let base = try #require(device.attach(region))
                let copy = try SharedRegion(anonymous: 4 * 4096)
                var random = SplitMix(mask << 32 | UInt64(alignment))
                for _ in 0..<200 {
                    let offset = UInt32.random(in: 0..<4096, using: &random)
                    let count = UInt32.random(in: 1...(4096 - offset), using: &random)
                    var pieces = [PagePiece(pfn: base, offset: offset, byteCount: count)]
                    if most == 1 { pieces.append(PagePiece(pfn: base.advanced(by: 2)!, offset: 0, byteCount: 100)) }
                    var segments: [BusSegment] = []
                    let handle = try device.map(pieces.span, .bidirectional, into: &segments)
                    let address = segments[0].address.rawValue
                    for bit in 0..<12 as Range<UInt64> {
                        let wanted = UInt64(1) << bit < alignment ? 0 : UInt64(offset) >> bit & 1
                        if UInt64(1) << bit < alignment || mask >> bit & 1 == 1 {
                            #expect(address >> bit & 1 == wanted, "bit \(bit) of 0x\(String(address, radix: 16)), of \(offset)")
                        }
                    }
                    #expect(segments.count == 1 && device.bus.read(segments[0], into: copy, at: 0))
                    #expect(copy.bytes(at: 0, count: Int(pieces[0].byteCount)).allSatisfy { $0 == 1 })
                    try device.unmap(handle, .bidirectional)
                }
                #expect(device.pool?.slotsInUse == 0)
            }
        }
        for bad in [UInt64(2), 8191, 0xFFF0] {
            #expect(throws: DMAError.self) {
                _ = try DMADevice(name: "d", options: DMAOptions(constraints: DMAConstraints(keptAddressMask: bad)))
            }
        }
    }

    /// Whole pages that follow one another are one segment, and none of them is bounced for where the machine has it.
    @Test func nothingIsBouncedBehindAnIommu() throws {
        let limits = DMAConstraints(minimumAlignment: 1 << 16)
        let device = try DMADevice(name: "d", options: DMAOptions(model: .p2m, iommu: .strict, constraints: limits))
        let base = try #require(device.attach(try SharedRegion(anonymous: 8 * 4096)))
        var segments: [BusSegment] = []
        let whole = (1..<8 as Range<UInt64>).map { PagePiece(pfn: base.advanced(by: $0)!, offset: 0, byteCount: 4096) }
        let handle = try device.map(whole.span, .toDevice, into: &segments)
        #expect(segments.count == 1 && segments[0].byteCount == 7 * 4096)
        try device.unmap(handle, .toDevice)
        #expect(device.statistics.bounces.total == 0)
    }

    /// Segments that may not be as long as the alignment: what fits into one is mapped, each piece at its own multiple.
    @Test(arguments: [IommuMode?.none, .strict])
    func shortSegments(_ mode: IommuMode?) throws {
        let limits = DMAConstraints(maximumSegmentSize: 1000, minimumAlignment: 8192)
        let device = try DMADevice(
            name: "d", options: DMAOptions(model: .p2m, iommu: mode, constraints: limits, bouncePool: 1 << 20))
        let base = try #require(device.attach(try SharedRegion(anonymous: 8 * 4096)))
        var segments: [BusSegment] = []
        let short = (0..<8 as Range<UInt64>).map {
            PagePiece(pfn: base.advanced(by: $0)!, offset: UInt32($0 & 1) * 100, byteCount: 1000)
        }
        let handle = try device.map(short.span, .toDevice, into: &segments)
        check(segments, limits, 8000)
        #expect(segments.count == 8)
        try device.unmap(handle, .toDevice)
        let long = [PagePiece(pfn: base, offset: 0, byteCount: 1001)]
        #expect(throws: DMAError.needsBounce(.alignment)) { _ = try device.map(long.span, .toDevice, into: &segments) }
        #expect(segments.count == 8 && device.pool?.slotsInUse == 0)
    }

    /// Neighbours on the bus whose run begins aligned need no pool, whatever their own numbers are.
    @Test func aRunIsAlignedAsAWhole() throws {
        let device = try DMADevice(
            name: "d", options: DMAOptions(model: .identity, constraints: DMAConstraints(minimumAlignment: 1 << 15)))
        let base = try #require(device.attach(try SharedRegion(anonymous: 8 * 4096)))
        var segments: [BusSegment] = []
        let whole = (0..<8 as Range<UInt64>).map { PagePiece(pfn: base.advanced(by: $0)!, offset: 0, byteCount: 4096) }
        let handle = try device.map(whole.span, .toDevice, into: &segments)
        #expect(segments.count == 1)
        try device.unmap(handle, .toDevice)
        #expect(throws: DMAError.needsBounce(.alignment)) { _ = try device.map([whole[1]].span, .toDevice, into: &segments) }
    }

    @Test(arguments: [IommuMode?.none, .strict, .deferred])
    func coherentMemory(_ mode: IommuMode?) throws {
        let device = try DMADevice(
            name: "d", options: DMAOptions(model: .p2m, iommu: mode, constraints: DMAConstraints(minimumAlignment: 1 << 18)))
        let all = try (0..<5).map { try device.allocateCoherent(4096 * ($0 + 1)) }
        for memory in all { #expect(memory.segment.address.rawValue & (1 << 18 - 1) == 0) }
        for memory in all { try device.freeCoherent(memory) }
        try device.close()
    }
}
