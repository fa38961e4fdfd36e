// Transfers through every kind of bus: what the device moves is compared with a plain copy, its segments with its
// limits (attacks.md PM15 to PM21).

import FrameMaps
import SharedMemory
import TestSupport
import Testing

@testable import DMA

private let models: [DMAOptions] = MemoryModel.allCases.flatMap { model in
    [nil, IommuMode.strict, .deferred].flatMap { iommu in
        [
            DMAOptions(model: model, iommu: iommu),
            DMAOptions(model: model, iommu: iommu, constraints: DMAConstraints(mask: 0xFFFF_FFFF), bouncePool: 1 << 20),
            DMAOptions(
                model: model, iommu: iommu,
                constraints: DMAConstraints(
                    mask: .max >> 8, boundaryMask: 0x1FFF, maximumSegmentSize: 1536, minimumAlignment: 512,
                    isUntrusted: true),
                bouncePool: 1 << 20),
        ]
    }
}

@Suite(.timeLimit(.minutes(2)))
struct DMADeviceTests {
    private func region(_ pages: Int, _ random: inout SplitMix) throws -> SharedRegion {
        let region = try SharedRegion(anonymous: pages * 4096)
        region.write((0..<pages * 4096).map { _ in UInt8.random(in: 0...255, using: &random) }, at: 0)
        return region
    }

    /// What a device does: byte by byte through its bus.
    private func move(
        _ device: DMADevice, _ segments: [BusSegment], _ direction: DMADirection, _ bytes: inout [UInt8], _ count: Int
    ) -> Bool {
        var place = 0
        for segment in segments {
            for offset in 0..<UInt64(segment.byteCount) where place < count {
                let address = segment.address.advanced(by: offset)!
                guard let run = device.bus.resolveRun(BusSegment(address: address, byteCount: 1), direction) else {
                    return false
                }
                if direction == .fromDevice {
                    run.memory.storeBytes(of: bytes[place], as: UInt8.self)
                } else {
                    bytes[place] = run.memory.load(as: UInt8.self)
                }
                place += 1
            }
        }
        return true
    }

    @Test(arguments: models)
    func transfers(_ options: DMAOptions) throws {
        var random = SplitMix(11)
        let device = try DMADevice(name: "d", options: options)
        let memory = try region(16, &random)
        var reference = memory.bytes(at: 0, count: 16 * 4096)
        let base = try #require(device.attach(memory))
        for _ in 0..<15 {
            var pieces: [PagePiece] = []
            var ranges: [Range<Int>] = []
            var pages = Array(0..<16)
            pages.shuffle(using: &random)
            if Bool.random(using: &random) { pages.sort() }
            for page in pages.prefix(Int.random(in: 1...11, using: &random)) {
                let first = Bool.random(using: &random) ? 0 : Int.random(in: 0..<8, using: &random)
                let last = Bool.random(using: &random) ? 7 : Int.random(in: first..<8, using: &random)
                pieces.append(
                    PagePiece(
                        pfn: base.advanced(by: UInt64(page))!, offset: UInt32(first * 512),
                        byteCount: UInt32((last - first + 1) * 512)))
                ranges.append(page * 4096 + first * 512..<page * 4096 + (last + 1) * 512)
            }
            let total = ranges.reduce(0) { $0 + $1.count }
            let direction: DMADirection = Bool.random(using: &random) ? .toDevice : .fromDevice
            var segments: [BusSegment] = []
            let handle = try device.map(pieces.span, direction, into: &segments)
            checkLimits(segments, options.constraints, total)
            if direction == .toDevice {
                var seen = [UInt8](repeating: 0, count: total)
                #expect(move(device, segments, .toDevice, &seen, total))
                #expect(seen == ranges.flatMap { Array(reference[$0]) })
            } else {
                // It writes all, nothing, or a part: the rest stays what it was.
                var bytes = (0..<total).map { _ in UInt8.random(in: 0...255, using: &random) }
                let count = [total, 0, total - 1].randomElement(using: &random)!
                #expect(move(device, segments, .fromDevice, &bytes, count))
                var place = 0
                for range in ranges {
                    for index in range where place < count { reference[index] = bytes[place]; place += 1 }
                }
            }
            try device.unmap(handle, direction)
            expectSame(memory.bytes(at: 0, count: 16 * 4096), reference)
            if device.iommu?.mode == .strict { #expect(!device.bus.isReachable(segments[0], direction)) }
        }
        #expect(device.liveMappings == 0 && device.pool?.slotsInUse ?? 0 == 0)
        device.detach(memory)
        #expect(device.frames?.map.foreignPageCount ?? 0 == 0)
        device.iommu?.flush()
        #expect(device.iommu?.tableByteCount ?? 0 == 0)
    }

    private func checkLimits(_ segments: [BusSegment], _ limits: DMAConstraints, _ total: Int) {
        #expect(segments.reduce(0) { $0 + Int($1.byteCount) } == total)
        for segment in segments {
            let last = segment.address.rawValue + UInt64(segment.byteCount) - 1
            #expect(last <= limits.mask && segment.byteCount <= limits.maximumSegmentSize)
            #expect(segment.address.rawValue | limits.boundaryMask == last | limits.boundaryMask)
            #expect(segment.address.rawValue & UInt64(limits.minimumAlignment - 1) == 0)
        }
    }

    /// Pages that are neighbours for the domain are none on a scattered bus: nothing is merged. Where they are,
    /// everything is.
    @Test func merging() throws {
        var random = SplitMix(1)
        for (model, count) in [(MemoryModel.p2m, 8), (.identity, 1), (.vp, 1)] {
            let device = try DMADevice(name: "d", options: DMAOptions(model: model, constraints: DMAConstraints(mask: .max >> 1)))
            let base = try #require(device.attach(try region(8, &random)))
            var segments: [BusSegment] = []
            let pieces = (0..<8 as Range<UInt64>).map {
                PagePiece(pfn: base.advanced(by: $0)!, offset: 0, byteCount: 4096)
            }
            let handle = try device.map(pieces.span, .toDevice, into: &segments)
            #expect(segments.count == count)
            try device.unmap(handle, .toDevice)
        }
    }

    /// Too many segments for the device: one run of the pool instead, or an error that says so; nothing is left behind.
    @Test func tooManySegments() throws {
        var random = SplitMix(1)
        for pool in [0, 1 << 16] {
            let device = try DMADevice(
                name: "d",
                options: DMAOptions(model: .p2m, constraints: DMAConstraints(maximumSegments: 2), bouncePool: pool))
            let memory = try region(4, &random)
            let base = try #require(device.attach(memory))
            var segments: [BusSegment] = []
            let pieces = (0..<4 as Range<UInt64>).map {
                PagePiece(pfn: base.advanced(by: $0)!, offset: 512, byteCount: 1024)
            }
            if pool == 0 {
                #expect(throws: DMAError.needsBounce(.segments)) {
                    _ = try device.map(pieces.span, .toDevice, into: &segments)
                }
                #expect(segments.isEmpty)
            } else {
                let handle = try device.map(pieces.span, .toDevice, into: &segments)
                #expect(segments.count == 1 && device.statistics.bounces[.segments] == 1)
                var seen = [UInt8](repeating: 0, count: 4096)
                #expect(move(device, segments, .toDevice, &seen, 4096))
                #expect(seen == (0..<4).flatMap { memory.bytes(at: $0 * 4096 + 512, count: 1024) })
                try device.unmap(handle, .toDevice)
            }
            #expect(device.pool?.slotsInUse ?? 0 == 0 && device.liveMappings == 0)
        }
    }

    /// Every class of wrong use is an error, counts, and changes nothing.
    @Test(arguments: [DMAOptions(), DMAOptions(model: .p2m, iommu: .strict)])
    func misuse(_ options: DMAOptions) throws {
        var random = SplitMix(1)
        let device = try DMADevice(name: "d", options: options)
        let base = try #require(device.attach(try region(2, &random)))
        var segments: [BusSegment] = []
        let piece = [PagePiece(pfn: base, offset: 0, byteCount: 4096)]
        let handle = try device.map(piece.span, .fromDevice, into: &segments)
        #expect(throws: DMAError.wrongDirection) { try device.unmap(handle, .toDevice) }
        #expect(throws: DMAError.wrongDirection) { try device.syncForDevice(handle, offset: 0, byteCount: 1) }
        #expect(throws: DMAError.notMapped) {
            try device.unmap(DMAHandle(index: 77, generation: 0, device: handle.device), .fromDevice)
        }
        #expect(device.liveMappings == 1)
        if device.frames != nil {
            #expect(throws: DMAError.outsideMapping(offset: 1, byteCount: 4096, mapped: 4096)) {
                try device.syncForCPU(handle, offset: 1, byteCount: 4096)
            }
            #expect(throws: DMAError.badPiece(offset: 4095, byteCount: 2)) {
                _ = try device.map([PagePiece(pfn: base, offset: 4095, byteCount: 2)].span, .toDevice, into: &segments)
            }
            let beyond = base.advanced(by: 2)!
            #expect(throws: DMAError.noSuchPage(beyond)) {
                _ = try device.map(
                    [PagePiece(pfn: base, offset: 0, byteCount: 9), PagePiece(pfn: beyond, offset: 0, byteCount: 9)]
                        .span, .toDevice, into: &segments)
            }
        }
        try device.unmap(handle, .fromDevice)
        #expect(throws: DMAError.notMapped) { try device.unmap(handle, .fromDevice) }
        // The record is used again; the old handle still is nothing.
        let second = try device.map(piece.span, .fromDevice, into: &segments)
        #expect(throws: DMAError.notMapped) { try device.unmap(handle, .fromDevice) }
        #expect(throws: DMAError.notMapped) { try device.syncForCPU(handle, offset: 0, byteCount: 1) }
        try device.unmap(second, .fromDevice)
        #expect(device.liveMappings == 0 && device.statistics.misuses >= 6)
    }

    /// attacks.md PM19: a full pool says what it is, how full, and what would still fit; later it serves again.
    @Test func fullPool() throws {
        var random = SplitMix(1)
        let device = try DMADevice(
            name: "vbd-51712",
            options: DMAOptions(model: .p2m, constraints: DMAConstraints(mask: 0xFFFF_FFFF), bouncePool: 16384))
        let base = try #require(device.attach(try region(8, &random)))
        var segments: [BusSegment] = []
        var handles: [DMAHandle] = []
        for page in 0..<3 as Range<UInt64> {
            handles.append(
                try device.map(
                    [PagePiece(pfn: base.advanced(by: page)!, offset: 0, byteCount: 4096)].span, .toDevice,
                    into: &segments))
        }
        handles.append(
            try device.map([PagePiece(pfn: base, offset: 0, byteCount: 100)].span, .toDevice, into: &segments))
        #expect(throws: DMAError.poolFull(name: "vbd-51712", used: 7, slots: 8, largest: 2048)) {
            let pieces = [
                PagePiece(pfn: base, offset: 0, byteCount: 4096), PagePiece(pfn: base, offset: 0, byteCount: 2048),
            ]
            _ = try device.map(pieces.span, .toDevice, into: &segments)
        }
        #expect(device.pool?.slotsInUse == 7 && device.liveMappings == 4)
        for handle in handles { try device.unmap(handle, .toDevice) }
        #expect(device.pool?.slotsInUse == 0)
    }

    /// A mapping synchronized in part: only those bytes move.
    @Test func partialSync() throws {
        var random = SplitMix(5)
        let device = try DMADevice(
            name: "d",
            options: DMAOptions(model: .p2m, constraints: DMAConstraints(mask: 0xFFFF_FFFF), bouncePool: 65536))
        let memory = try region(2, &random)
        var reference = memory.bytes(at: 0, count: 8192)
        let base = try #require(device.attach(memory))
        var segments: [BusSegment] = []
        let pieces = (0..<2 as Range<UInt64>).map { PagePiece(pfn: base.advanced(by: $0)!, offset: 0, byteCount: 4096) }
        let handle = try device.map(pieces.span, .fromDevice, into: &segments)
        var bytes = [UInt8](repeating: 0xEE, count: 8192)
        #expect(move(device, segments, .fromDevice, &bytes, 8192))
        try device.syncForCPU(handle, offset: 4000, byteCount: 200)
        for index in 4000..<4200 { reference[index] = 0xEE }
        expectSame(memory.bytes(at: 0, count: 8192), reference)
        try device.unmap(handle, .fromDevice)
        expectSame(memory.bytes(at: 0, count: 8192), bytes)
    }

    /// attacks.md PM1: after a region has gone, an address kept from before is a fault, also where the IOTLB still knew
    /// it, and never another region's memory.
    @Test(arguments: [IommuMode.strict, .deferred])
    func staleAddresses(_ mode: IommuMode) throws {
        var random = SplitMix(1)
        let device = try DMADevice(name: "d", options: DMAOptions(model: .p2m, iommu: mode))
        let first = try region(1, &random)
        let base = try #require(device.attach(first))
        var segments: [BusSegment] = []
        let handle = try device.map([PagePiece(pfn: base, offset: 0, byteCount: 4096)].span, .toDevice, into: &segments)
        #expect(device.bus.isReachable(segments[0], .toDevice))
        #expect(!device.bus.isReachable(segments[0], .fromDevice))
        try device.unmap(handle, .toDevice)
        #expect(device.bus.isReachable(segments[0], .toDevice) == (mode == .deferred))
        device.detach(first)
        _ = device.attach(try region(1, &random))
        #expect(!device.bus.isReachable(segments[0], .toDevice))
        #expect(device.iommu?.faults.count ?? 0 > 0)
    }

    @Test func readOnlyPages() throws {
        let memory = try SharedRegion(anonymous: 4096)
        let sealed = unsafe SharedRegion(adopting: memory.unsafeBase, byteCount: 4096, writable: false) { _, _ in }
        let device = try DMADevice(name: "d", options: DMAOptions(model: .identity, iommu: .strict))
        let base = try #require(device.attach(sealed))
        var segments: [BusSegment] = []
        let piece = [PagePiece(pfn: base, offset: 0, byteCount: 512)]
        #expect(throws: DMAError.notWritable(base)) { _ = try device.map(piece.span, .fromDevice, into: &segments) }
        try device.unmap(try device.map(piece.span, .toDevice, into: &segments), .toDevice)
        withExtendedLifetime(memory) {}
    }
}
