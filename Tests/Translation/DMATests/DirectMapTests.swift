@testable import DMA
import FrameMaps
import SharedMemory
import Testing

/// The direct map is laid out in the driver, and counted here all the same.
struct DirectMapTests {
    private let kinds = [
        DMAOptions(), DMAOptions(model: .p2m), DMAOptions(model: .p2m, iommu: .strict),
        DMAOptions(model: .vp, constraints: DMAConstraints(maximumSegmentSize: 512)),
    ]

    /// Both forms of `map` give the same segments and are counted, checked and ended alike, whatever stands between
    /// pages and device.
    @Test func piecesFromAListOrOneByOne() throws {
        for options in kinds {
            let device = try DMADevice(name: "d", options: options)
            let region = try SharedRegion(anonymous: 8 * 4096)
            let first = try #require(device.attach(region))
            func piece(_ page: UInt64, _ offset: UInt32 = 0, _ byteCount: UInt32 = 4096) -> PagePiece {
                PagePiece(pfn: Pfn(rawValue: first.rawValue + page), offset: offset, byteCount: byteCount)
            }
            // Neighbours, a gap, a part of a page, and places in which there is none.
            let places = [piece(0), piece(1), nil, piece(5, 100, 700), nil]
            let pieces = places.compactMap { $0 }
            var (listed, single): ([BusSegment], [BusSegment]) = ([], [])
            let one = try device.map(pieces.span, .toDevice, into: &listed)
            if options.iommu != nil { try device.unmap(one, .toDevice) }
            let other = try device.map(count: places.count, .toDevice, into: &single) { places[$0] }
            #expect(listed == single && !single.isEmpty)
            #expect(listed.reduce(0) { $0 + Int($1.byteCount) } == 2 * 4096 + 700)
            if device.isDirect { #expect(listed.count == 2) }
            if options.iommu == nil { try device.unmap(one, .toDevice) }
            #expect(device.statistics.maps == 2 && device.liveMappings == 1)
            #expect(throws: DMAError.self) { try device.unmap(other, .fromDevice) }
            try device.unmap(other, .toDevice)
            #expect(throws: DMAError.self) { try device.unmap(other, .toDevice) }
            #expect(device.liveMappings == 0 && device.statistics.unmaps == 2 && device.statistics.misuses == 2)
            try device.close()
        }
    }

    /// What is not there, may not be written or is no part of a page is refused alike by every model, with limits and
    /// without; nothing is left of the pieces before it.
    @Test(arguments: [
        DMAOptions(), DMAOptions(model: .p2m), DMAOptions(model: .identity), DMAOptions(iommu: .strict),
        DMAOptions(model: .vp, constraints: DMAConstraints(mask: .max >> 1)),
    ])
    func everyModelLooks(_ options: DMAOptions) throws {
        let device = try DMADevice(name: "d", options: options)
        let (region, other) = (try SharedRegion(anonymous: 4 * 4096), try SharedRegion(anonymous: 4096))
        let sealed = unsafe SharedRegion(adopting: other.unsafeBase, byteCount: 4096, writable: false) { _, _ in }
        let (first, readOnly) = (try #require(device.attach(region)), try #require(device.attach(sealed)))
        var segments = [BusSegment(address: BusAddress(rawValue: 5), byteCount: 6)]
        func refused(_ pfn: UInt64, _ direction: DMADirection, _ error: DMAError, _ offset: UInt32 = 0, _ byteCount: UInt32 = 4096)
        {
            let pieces = [
                PagePiece(pfn: first, offset: 0, byteCount: 4096),
                PagePiece(pfn: Pfn(rawValue: pfn), offset: offset, byteCount: byteCount),
            ]
            #expect(throws: error) { _ = try device.map(pieces.span, direction, into: &segments) }
            #expect(throws: error) { _ = try device.map(count: 2, direction, into: &segments) { pieces[$0] } }
            #expect(segments.count == 1 && device.liveMappings == 0)
        }
        // Behind the region's end and before its start, where nothing ever was, and beyond all numbers.
        for number in [first.rawValue + 5, first.rawValue - 1, 1, 0, 1 << 40, 1 << 52, first.rawValue | 1 << 52, .max] {
            refused(number, .toDevice, .noSuchPage(Pfn(rawValue: number)))
            refused(number, .bidirectional, .noSuchPage(Pfn(rawValue: number)))
        }
        refused(readOnly.rawValue, .fromDevice, .notWritable(readOnly))
        refused(readOnly.rawValue, .bidirectional, .notWritable(readOnly))
        for (offset, count) in [(0, 0), (0, 4097), (4095, 2), (4096, 1), (.max, 1), (1, .max)] as [(UInt32, UInt32)] {
            refused(first.rawValue, .toDevice, .badPiece(offset: Int(offset), byteCount: Int(count)), offset, count)
        }
        let good = try device.map([PagePiece(pfn: readOnly, offset: 4095, byteCount: 1)].span, .toDevice, into: &segments)
        #expect(segments.count == 2 && device.bus.isReachable(segments[1], .toDevice))
        try device.unmap(good, .toDevice)
        // Detached, and then another region's place.
        device.detach(region)
        let next = try #require(device.attach(try SharedRegion(anonymous: 2 * 4096)))
        #expect(throws: DMAError.self) {
            _ = try device.map(
                [PagePiece(pfn: Pfn(rawValue: next.rawValue + 2), offset: 0, byteCount: 1)].span, .toDevice, into: &segments)
        }
        withExtendedLifetime(other) {}
    }

    /// Segments are appended: what stands before them is never joined.
    @Test func whatStandsBeforeIsLeftAlone() throws {
        let device = try DMADevice(name: "d")
        let region = try SharedRegion(anonymous: 2 * 4096)
        let first = try #require(device.attach(region))
        var segments: [BusSegment] = []
        let handles = try (0..<2).map { page in
            let piece = PagePiece(pfn: Pfn(rawValue: first.rawValue + UInt64(page)), offset: 0, byteCount: 4096)
            return try device.map([piece].span, .fromDevice, into: &segments)
        }
        #expect(segments.count == 2)
        for handle in handles { try device.unmap(handle, .fromDevice) }
    }

    /// Memory that both sides use has a record of the same ledger: neither kind is ended as the other.
    @Test func kindsAreToldApart() throws {
        let device = try DMADevice(name: "d")
        let region = try SharedRegion(anonymous: 4096)
        let page = try #require(device.attach(region))
        var segments: [BusSegment] = []
        let memory = try device.allocateCoherent(4096)
        #expect(throws: DMAError.self) { try device.unmap(memory.handle, .bidirectional) }
        try device.freeCoherent(memory)
        // Its place is used again.
        let handle = try device.map([PagePiece(pfn: page, offset: 0, byteCount: 10)].span, .bidirectional, into: &segments)
        #expect(throws: DMAError.self) { try device.freeCoherent(memory) }
        #expect(try device.bouncedPieces(of: handle).isEmpty && device.bounceReasons(of: handle) == [])
        try device.unmap(handle, .bidirectional)
        #expect(device.statistics.misuses == 2)
        try device.close()
    }
}
