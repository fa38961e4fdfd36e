// The DMA API's other forms: typed mappings, reserve-link-commit, coherent memory; and what a driver that misuses them
// meets.

import FrameMaps
import SharedMemory
import Testing

@testable import DMA

private let low = DMAConstraints(mask: 0xFFFF_FFFF)

@Suite(.timeLimit(.minutes(1)))
struct FormTests {
    private func setUp(_ options: DMAOptions, pages: Int = 4) throws -> (DMADevice, SharedRegion, Pfn) {
        let device = try DMADevice(name: "d", options: options)
        let region = try SharedRegion(anonymous: pages * 4096)
        for page in 0..<pages { region.fill(page * 4096, count: 4096, with: UInt8(page + 1)) }
        return (device, region, try #require(device.attach(region)))
    }

    private func pieces(_ base: Pfn, _ count: UInt64) -> [PagePiece] {
        (0..<count).map { PagePiece(pfn: base.advanced(by: $0)!, offset: 0, byteCount: 4096) }
    }

    @Test func typedMappings() throws {
        let (device, region, base) = try setUp(DMAOptions(model: .p2m, constraints: low, bouncePool: 1 << 20))
        let list = pieces(base, 2)
        let mapping = try device.map(list.span, FromDevice.self)
        #expect(mapping.bounced.map(\.reason) == [.mask, .mask] && mapping.bounced.map(\.offset) == [0, 4096])
        for segment in mapping.segments {
            let run = try #require(device.bus.resolveRun(segment, .fromDevice))
            unsafe run.memory.initializeMemory(as: UInt8.self, repeating: 0xEE, count: Int(run.byteCount))
        }
        try mapping.syncForCPU(offset: 100, byteCount: 50)
        #expect(region.bytes(at: 99, count: 52) == [1] + [UInt8](repeating: 0xEE, count: 50) + [1])
        try mapping.unmap()
        #expect(region.bytes(at: 0, count: 8192) == [UInt8](repeating: 0xEE, count: 8192))
        try device.close()

        // Both ways: each sync compiles, and each moves bytes.
        let both = try device.map(list[0], Bidirectional.self)
        region.fill(0, count: 4096, with: 0x11)
        try both.syncForDevice(offset: 0, byteCount: 4096)
        let run = try #require(device.bus.resolveRun(both.segments[0], .toDevice))
        #expect(unsafe run.memory.load(as: UInt8.self) == 0x11)
        try both.unmap()
    }

    /// Dropped instead of ended: it stays the device's, it is counted, and the driver that leaves hears of it.
    @Test func droppedMappings() throws {
        let (device, _, base) = try setUp(DMAOptions(model: .p2m, iommu: .strict))
        do {
            let mapping = try device.map(pieces(base, 1)[0], ToDevice.self)
            #expect(mapping.segments.count == 1)
        }
        #expect(device.liveMappings == 1 && device.statistics.misuses == 1)
        #expect(throws: DMAError.leaked(DMALeak(count: 1, exampleByteCount: 4096, exampleDirection: .toDevice))) {
            try device.close()
        }
    }

    @Test(arguments: [IommuMode.strict, .deferred])
    func reserveLinkCommit(_ mode: IommuMode) throws {
        let (device, _, base) = try setUp(DMAOptions(model: .p2m, iommu: mode))
        let free = try #require(device.iommu).freePages
        // A value without copies does not go through a macro.
        guard var reservation = try device.reserve(byteCount: 3 * 4096 + 100, .toDevice) else {
            Issue.record("no address space")
            return
        }
        let list = pieces(base, 4)
        try reservation.link(list[2])
        try reservation.link(list[0])
        let first = reservation.commit()
        #expect(first == [BusSegment(address: BusAddress(rawValue: reservation.start.rawValue), byteCount: 8192)])
        #expect(device.bus.isReachable(first[0], .toDevice) && !device.bus.isReachable(first[0], .fromDevice))
        // One run on the bus, in the order of linking, whatever the machine's frames are.
        let run = try #require(device.bus.resolveRun(first[0], .toDevice))
        #expect(unsafe run.memory.load(as: UInt8.self) == 3)
        try reservation.link(list[1])
        #expect(throws: DMAError.outsideMapping(offset: 3 * 4096, byteCount: 4096, mapped: 3 * 4096 + 100)) {
            try reservation.link(list[3])
        }
        try reservation.link(PagePiece(pfn: list[3].pfn, offset: 0, byteCount: 100))
        #expect(throws: DMAError.self) { try reservation.link(PagePiece(pfn: list[3].pfn, offset: 0, byteCount: 1)) }
        let second = reservation.commit()
        #expect(second.map(\.byteCount) == [4096 + 100] && reservation.commit().isEmpty)
        try reservation.destroy()
        device.iommu?.flush()
        #expect(!device.bus.isReachable(first[0], .toDevice) && !device.bus.isReachable(second[0], .toDevice))
        #expect(device.iommu?.freePages == free && device.liveMappings == 0)
        for count in [0, -1, .min, .max, 1 << 32] {
            #expect(throws: DMAError.badCount(count)) { _ = try device.reserve(byteCount: count, .toDevice) }
        }
    }

    @Test func reservationsNeedAnIommu() throws {
        let (device, _, _) = try setUp(DMAOptions(model: .p2m))
        if try device.reserve(byteCount: 4096, .toDevice) != nil { Issue.record("address space without an IOMMU") }
    }

    @Test(arguments: [
        DMAOptions(), DMAOptions(model: .p2m), DMAOptions(model: .p2m, constraints: low), DMAOptions(iommu: .strict),
        DMAOptions(model: .p2m, iommu: .deferred, constraints: low),
    ])
    func coherentMemory(_ options: DMAOptions) throws {
        let device = try DMADevice(name: "d", options: options)
        let memory = try device.allocateCoherent(5000)
        #expect(memory.region.byteCount == 8192 && memory.segment.byteCount == 8192)
        #expect(memory.region.bytes(at: 0, count: 8192).allSatisfy { $0 == 0 })
        #expect(memory.segment.address.rawValue + 8191 <= options.constraints.mask || options.isDirect)
        // Both at the same time, without a sync.
        memory.region.fill(4096, count: 1, with: 0x42)
        let byte = BusSegment(address: memory.segment.address.advanced(by: 4096)!, byteCount: 1)
        let run = try #require(device.bus.resolveRun(byte, .fromDevice))
        #expect(unsafe run.memory.load(as: UInt8.self) == 0x42)
        unsafe run.memory.storeBytes(of: 0x43, as: UInt8.self)
        #expect(memory.region.bytes(at: 4096, count: 1) == [0x43])
        // Ended as what it is not, and twice.
        #expect(throws: DMAError.wrongKind) { try device.unmap(memory.handle, .bidirectional) }
        try device.freeCoherent(memory)
        #expect(throws: DMAError.notMapped) { try device.freeCoherent(memory) }
        #expect(!device.bus.isReachable(byte, .fromDevice))
        try device.close()
    }

    /// Linux's classes of misuse that are left at run time: each an error or a count, and nothing changed.
    @Test func misuses() throws {
        let (device, region, base) = try setUp(DMAOptions(model: .p2m, iommu: .strict))
        let other = try DMADevice(name: "e", options: DMAOptions(model: .p2m, iommu: .strict))
        let list = pieces(base, 2)
        var segments: [BusSegment] = []
        let handle = try device.map(list.span, .toDevice, into: &segments)
        // Another device's.
        #expect(throws: DMAError.notMapped) { try other.unmap(handle, .toDevice) }
        // Beyond its end, however the sum wraps.
        for (offset, count) in [(8192, 1), (0, 8193), (Int.max, Int.max), (-1, 1), (1, -1)] {
            #expect(throws: DMAError.outsideMapping(offset: offset, byteCount: count, mapped: 8192)) {
                try device.syncForDevice(handle, offset: offset, byteCount: count)
            }
        }
        // The same page in another transfer: harmless while both are read, counted when one is written.
        let (zeroth, first) = ([list[0]], [list[1]])
        let second = try device.map(first.span, .toDevice, into: &segments)
        #expect(device.statistics.overlaps == 0)
        let third = try device.map(zeroth.span, .fromDevice, into: &segments)
        #expect(device.statistics.overlaps == 1)
        try device.unmap(third, .fromDevice)
        try device.unmap(second, .toDevice)
        // Taken away while the device has it: counted, and its numbers are nobody's again.
        device.detach(region)
        #expect(device.statistics.misuses == 6 + 0)
        let next = try SharedRegion(anonymous: 4 * 4096)
        #expect(try #require(device.attach(next)) != base)
        try device.unmap(handle, .toDevice)
        #expect(device.liveMappings == 0)
    }

    /// Each bounce has its reason, also where one transfer has several.
    @Test func reasons() throws {
        for (options, wanted) in [
            (DMAOptions(model: .p2m, constraints: low, bouncePool: 1 << 16), BounceReason.mask),
            (DMAOptions(model: .p2m, constraints: DMAConstraints(minimumAlignment: 512), bouncePool: 1 << 16), .alignment),
            (DMAOptions(model: .p2m, constraints: DMAConstraints(maximumSegments: 1), bouncePool: 1 << 16), .straddle),
            (
                DMAOptions(
                    model: .p2m, constraints: DMAConstraints(maximumSegments: 1, isUntrusted: false, refusesForeign: true),
                    bouncePool: 1 << 16), .foreign
            ),
            (DMAOptions(model: .p2m, constraints: DMAConstraints(isUntrusted: true), bouncePool: 1 << 16), .untrusted),
            (
                DMAOptions(model: .p2m, iommu: .strict, constraints: DMAConstraints(isUntrusted: true), bouncePool: 1 << 16),
                .subGranule
            ),
        ] {
            let (device, _, base) = try setUp(options)
            var list = pieces(base, 2)
            list[0] = PagePiece(pfn: list[0].pfn, offset: 100, byteCount: 3996)
            var segments: [BusSegment] = []
            if wanted == .foreign { list.removeLast() }
            let handle = try device.map(list.span, .fromDevice, into: &segments)
            #expect(try device.bounceReasons(of: handle) == BounceReasons(wanted), "\(wanted)")
            #expect(try device.bouncedPieces(of: handle).first?.reason == wanted)
            #expect(device.statistics.bounces[wanted] > 0)
            try device.unmap(handle, .fromDevice)
            #expect(device.pool?.slotsInUse == 0)
        }
    }

    /// Areas only for queues that bounce; together they stay within the budget, and what is not used comes back.
    @Test func areasShareAPool() throws {
        let pool = BouncePool(name: "vbd-1", byteCount: 4 << 20)
        let options = DMAOptions(model: .p2m, constraints: low)
        let devices = try (0..<3).map { try DMADevice(name: "q\($0)", options: options, pool: pool) }
        #expect(pool.areaCount == 0 && pool.slotCount == 0)
        var held: [(DMADevice, DMAHandle)] = []
        var regions: [SharedRegion] = []
        for device in devices.prefix(2) {
            let region = try SharedRegion(anonymous: 4096)
            regions.append(region)
            let base = try #require(device.attach(region))
            var segments: [BusSegment] = []
            let piece = pieces(base, 1)
            // One megabyte is 256 of them; each area has to grow once.
            for _ in 0..<300 { held.append((device, try device.map(piece.span, .toDevice, into: &segments))) }
        }
        #expect(pool.areaCount == 2 && pool.slotCount == 4 * 512 && pool.slotsInUse == 1200)
        let third = try #require(devices[2].attach(regions[0]))
        var segments: [BusSegment] = []
        #expect(throws: DMAError.poolFull(name: "vbd-1", used: 1200, slots: 2048, largest: 0)) {
            _ = try devices[2].map(pieces(third, 1).span, .toDevice, into: &segments)
        }
        for (device, handle) in held.reversed() { try device.unmap(handle, .toDevice) }
        #expect(pool.slotsInUse == 0)
        for device in devices { device.pool?.shrink() }
        #expect(pool.slotCount == 2 * 512)
        // Without being asked, too: use that never needs the second megabyte gives it back.
        let base = try #require(devices[0].attach(regions[0]))
        let many = try (0..<300).map { _ in try devices[0].map(pieces(base, 1).span, .toDevice, into: &segments) }
        #expect(pool.slotCount == 3 * 512)
        for handle in many { try devices[0].unmap(handle, .toDevice) }
        for _ in 0..<BounceState.patience + 1 {
            try devices[0].unmap(try devices[0].map(pieces(base, 1).span, .toDevice, into: &segments), .toDevice)
        }
        #expect(pool.slotCount == 2 * 512)
    }

    /// What a device did not write, by its own word, stays as it was, bounced or not; a word that makes no sense is no
    /// more than all.
    @Test(arguments: [(0, 0), (100, 100), (4097, 4097), (8192, 8192), (.max, 8192), (-1, 0)])
    func aShortTransferLeavesTheRest(_ written: Int, _ expected: Int) throws {
        let device = try DMADevice(name: "d", options: DMAOptions(model: .p2m, constraints: low, bouncePool: 1 << 20))
        let region = try SharedRegion(anonymous: 2 * 4096)
        region.fill(0, count: 8192, with: 0x11)
        let base = try #require(device.attach(region))
        var segments: [BusSegment] = []
        let handle = try device.map(pieces(base, 2).span, .fromDevice, into: &segments)
        for segment in segments {
            let run = try #require(device.bus.resolveRun(segment, .fromDevice))
            #expect(run.byteCount == segment.byteCount)
            unsafe run.memory.initializeMemory(as: UInt8.self, repeating: 0x22, count: Int(run.byteCount))
        }
        try device.unmap(handle, .fromDevice, written: written)
        #expect(region.bytes(at: 0, count: 8192).firstIndex(of: 0x11) ?? 8192 == expected)
        #expect(device.pool?.slotsInUse == 0)
    }

    /// The driver's own look at its pages goes by their numbers, whatever stands before the device, and stops at what
    /// may not be written.
    @Test(arguments: [DMAOptions(), DMAOptions(model: .p2m), DMAOptions(model: .p2m, iommu: .strict)])
    func theDriverSeesItsPages(_ options: DMAOptions) throws {
        let device = try DMADevice(name: "d", options: options)
        let (pages, own) = (try SharedRegion(anonymous: 3 * 4096), try SharedRegion(anonymous: 4096))
        let base = try #require(device.attach(pages))
        let second = try #require(base.advanced(by: 1))
        pages.write([1, 2, 3, 4], at: 4096 + 10)
        let piece = PagePiece(pfn: second, offset: 10, byteCount: 4)
        let isRead = device.read(piece, into: own, at: 5)
        #expect(isRead && own.bytes(at: 5, count: 4) == [1, 2, 3, 4])
        own.write([9, 8], at: 0)
        let isWritten = device.write(PagePiece(pfn: second, offset: 0, byteCount: 2), from: own, at: 0)
        #expect(isWritten && pages.bytes(at: 4096, count: 2) == [9, 8])
        let third = try #require(base.advanced(by: 2))
        let isCopied = device.copy(piece, to: third)
        #expect(isCopied && pages.bytes(at: 8192, count: 4) == [1, 2, 3, 4])
        // Nothing is there.
        let beyond = try #require(base.advanced(by: 3))
        let isNowhere = device.read(PagePiece(pfn: beyond, offset: 0, byteCount: 1), into: own, at: 0)
        #expect(!isNowhere)
        device.detach(pages)
        let isGone = device.read(piece, into: own, at: 0)
        #expect(!isGone)
    }

    /// However much of a shared pool one queue takes, each of the others finds an arena (without that, a queue that
    /// came late never bounced).
    @Test func eachQueueIsSureOfItsShare() throws {
        let pool = BouncePool(name: "vif-1", byteCount: 1 << 20, sharers: 4)
        #expect(pool.arenaBytes == 256 << 10)
        let options = DMAOptions(model: .p2m, constraints: DMAConstraints(mask: 0xFFFF_FFFF), bouncePool: 1 << 20)
        let queues = try (0..<4).map { try DMADevice(name: "q\($0)", options: options, pool: pool) }
        let region = try SharedRegion(anonymous: 256 * 4096)
        for (index, device) in queues.enumerated() {
            let first = try #require(device.attach(region))
            var segments: [BusSegment] = []
            var handles: [DMAHandle] = []
            // The first takes all that it can get.
            for page in 0..<(index == 0 ? 256 : 64) {
                guard let pfn = first.advanced(by: UInt64(page)) else { break }
                let piece = PagePiece(pfn: pfn, offset: 0, byteCount: 4096)
                do throws(DMAError) { handles.append(try device.map([piece].span, .toDevice, into: &segments)) } catch { break }
            }
            #expect(handles.count == 64, "queue \(index)")
        }
    }
}
