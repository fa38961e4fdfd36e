// Addresses and counts that nobody should pass: beyond the mask, zero, negative, as large as a number can be. Each is
// an error with a name, and changes nothing.

import FrameMaps
import SharedMemory
import TestSupport
import Testing

@testable import DMA

@Suite(.timeLimit(.minutes(1)))
struct RangeTests {
    /// 2^20 pages; something is linked in the last of them, and in a reservation.
    private func space(_ mode: IommuMode = .strict) throws -> (IommuDomain, Iova) {
        let domain = try IommuDomain(device: "d", mode: mode, mask: (1 << 32) - 1)
        domain.tracksDirty = true
        try domain.link(Iova(rawValue: 0xFFFF_F000), to: bus(70), pages: 1, .readWrite)
        let iova = try domain.reserve(pages: 4)
        try domain.link(iova, to: bus(100), pages: 4, .readWrite)
        return (domain, iova)
    }

    private let limit: UInt64 = 1 << 20
    /// Page and pages that are not within 2^20 pages.
    private let outside: [(page: UInt64, pages: Int)] = [
        (1 << 20, 1), (1 << 20 - 1, 2), (0, 1 << 20 + 1), (5, 1 << 40), (5, .max), (1 << 30, 3), (1 << 51, .max), (1 << 52 - 1, 1),
        (1 << 20 - 3, .max),
    ]

    /// Calls each function that takes a range; the error must be the same for all.
    private func refused(_ domain: IommuDomain, _ iova: Iova, _ pages: Int, _ error: DMAError) {
        #expect(throws: error) { try domain.link(iova, to: bus(9), pages: pages, .readWrite) }
        #expect(throws: error) { try domain.unlink(iova, pages: pages) }
        #expect(throws: error) { try domain.invalidate(iova, pages: pages) }
        #expect(throws: error) { _ = try domain.takeDirty(iova, pages: pages) }
        #expect(throws: DMAError.notReserved(iova, pages: pages)) { try domain.free(iova, pages: pages) }
        #expect(throws: DMAError.notReserved(iova, pages: pages)) { try domain.release(iova, pages: pages) }
    }

    @Test("ranges of an IO address space", arguments: [IommuMode.strict, .deferred])
    func ranges(_ mode: IommuMode) throws {
        let (domain, iova) = try space(mode)
        let (free, tables) = (domain.freePages, domain.tableByteCount)
        for (page, pages) in outside {
            let place = Iova(rawValue: page << 12)
            refused(domain, place, pages, .outsideSpace(place, pages: pages, limit: limit))
            #expect(domain.lookup(place) == nil || page < limit)
        }
        for pages in [0, -1, -4096, Int.min] {
            refused(domain, iova, pages, .badCount(pages))
            refused(domain, Iova(rawValue: 1 << 63), pages, .badCount(pages))
            #expect(throws: DMAError.badCount(pages)) { _ = try domain.reserve(pages: pages) }
        }
        for pages in [1 << 20, 1 << 21, 1 << 62, Int.max] {
            let error = #expect(throws: DMAError.self) { _ = try domain.reserve(pages: pages) }
            if case .noIova(pages, _) = error {} else { Issue.record("\(String(describing: error))") }
        }
        let within = try #require(iova.advanced(by: 1))
        refused(domain, within, 1, .misaligned(within))
        for frame in [1 << 52, 1 << 52 - 3, .max] as [UInt64] {
            #expect(throws: DMAError.frameOutOfRange(bus(frame), pages: 4)) {
                try domain.link(Iova(rawValue: 1 << 30), to: bus(frame), pages: 4, .read)
            }
        }
        // Nothing has changed.
        #expect(domain.freePages == free && domain.tableByteCount == tables && domain.staleCount == 0)
        #expect(domain.lookup(Iova(rawValue: 0xFFFF_F000))?.frame == bus(70) && domain.lookup(iova)?.frame == bus(100))
        try domain.release(iova, pages: 4)
        domain.flush()
        #expect(domain.freePages == free + 4)
    }

    /// A reservation is given back once, as a whole, and by its first address; in deferred mode, too, where the first
    /// time still waits for its batch.
    @Test("reservations end once", arguments: [IommuMode.strict, .deferred])
    func reservationsEndOnce(_ mode: IommuMode) throws {
        let (domain, iova) = try space(mode)
        let second = try domain.reserve(pages: 4)
        for (place, pages) in [(iova.advanced(by: 4096)!, 1), (iova, 1), (iova, 2), (iova, 8)] {
            #expect(throws: DMAError.notReserved(place, pages: pages)) { try domain.release(place, pages: pages) }
            #expect(throws: DMAError.notReserved(place, pages: pages)) { try domain.free(place, pages: pages) }
        }
        #expect(domain.lookup(iova.advanced(by: 3 * 4096)!)?.frame == bus(103))
        try domain.release(iova, pages: 4)
        #expect(throws: DMAError.notReserved(iova, pages: 4)) { try domain.release(iova, pages: 4) }
        #expect(throws: DMAError.notReserved(iova, pages: 4)) { try domain.free(iova, pages: 4) }
        #expect(domain.staleCount == (mode == .strict ? 0 : 1))
        try domain.free(second, pages: 4)
        #expect(throws: DMAError.notReserved(second, pages: 4)) { try domain.free(second, pages: 4) }
        #expect(throws: DMAError.notReserved(Iova(rawValue: 0), pages: 1)) { try domain.free(Iova(rawValue: 0), pages: 1) }
    }

    /// A device's own mappings are no reservations of a caller's: nobody ends them under the device.
    @Test("a device's mappings end by the device", arguments: [IommuMode.strict, .deferred])
    func mappingsOfADevice(_ mode: IommuMode) throws {
        let device = try DMADevice(name: "d", options: DMAOptions(iommu: mode))
        let iommu = try #require(device.iommu)
        let pages = try SharedRegion(anonymous: 4 * 4096)
        let base = try #require(device.attach(pages))
        let free = iommu.freePages
        var segments: [BusSegment] = []
        let pieces = (0..<4).map { PagePiece(pfn: pfn(base.rawValue + $0), offset: 0, byteCount: 4096) }
        let handle = try device.map(pieces.span, .toDevice, into: &segments)
        let coherent = try device.allocateCoherent(4096)
        for (segment, count) in [(segments[0], 4), (coherent.segment, 1)] {
            let iova = Iova(rawValue: segment.address.rawValue)
            #expect(throws: DMAError.notReserved(iova, pages: count)) { try iommu.release(iova, pages: count) }
            #expect(throws: DMAError.notReserved(iova, pages: count)) { try iommu.free(iova, pages: count) }
            #expect(device.bus.isReachable(segment, .toDevice))
        }
        try device.unmap(handle, .toDevice)
        #expect(throws: DMAError.notMapped) { try device.unmap(handle, .toDevice) }
        try device.freeCoherent(coherent)
        device.settle()
        #expect(iommu.freePages == free && iommu.staleCount == 0)
    }

    @Test("a mask that leaves no address is refused when the space is made")
    func masks() throws {
        for mask in [0, 0xFFF, 0xF_FFFF] as [UInt64] {
            #expect(throws: DMAError.self) { _ = try IommuDomain(device: "d", mode: .strict, mask: mask) }
        }
        let smallest = try IommuDomain(device: "d", mode: .strict, mask: 0x10_0FFF)
        #expect(try smallest.reserve(pages: 1) == Iova(rawValue: 0x10_0000))
        #expect(throws: DMAError.noIova(pages: 1, largest: 0)) { _ = try smallest.reserve(pages: 1) }
    }

    @Test("bytes, pieces and limits", arguments: [DMAOptions(), DMAOptions(model: .p2m), DMAOptions(iommu: .deferred)])
    func countsOfADevice(_ options: DMAOptions) throws {
        let device = try DMADevice(name: "d", options: options)
        let regions = SharedRegion.liveCount
        for count in [0, -1, .min, .max, .max - 4094, 1 << 32] {
            #expect(throws: DMAError.badCount(count)) { _ = try device.allocateCoherent(count) }
            #expect(throws: DMAError.badCount(count)) { _ = try device.reserve(byteCount: count, .toDevice) }
        }
        var segments: [BusSegment] = []
        for count in [-1, .min] {
            #expect(throws: DMAError.badCount(count)) {
                _ = try device.map(count: count, .toDevice, into: &segments) { _ in nil }
            }
        }
        #expect(SharedRegion.liveCount == regions && device.liveMappings == 0)
        var bad: [DMAConstraints] = [
            DMAConstraints(mask: 0), DMAConstraints(mask: 0xFFFF_0000), DMAConstraints(boundaryMask: 5),
            DMAConstraints(minimumAlignment: 3),
        ]
        for change in [{ $0.maximumSegmentSize = 0 }, { $0.minimumAlignment = 0 }, { $0.maximumSegments = -1 }]
            as [(inout DMAConstraints) -> Void]
        {
            bad.append(DMAConstraints())
            change(&bad[bad.count - 1])
        }
        for limits in bad {
            let error = #expect(throws: DMAError.self) {
                _ = try DMADevice(name: "d", options: DMAOptions(model: .p2m, constraints: limits))
            }
            if case .badConstraints = error {} else { Issue.record("\(limits): \(String(describing: error))") }
        }
    }

    /// Places outside of a region or a segment are answered like a fault.
    @Test("a driver's look beside its memory", arguments: [DMAOptions(), DMAOptions(model: .p2m, iommu: .strict)])
    func looks(_ options: DMAOptions) throws {
        let device = try DMADevice(name: "d", options: options)
        let (pages, own) = (try SharedRegion(anonymous: 4096), try SharedRegion(anonymous: 4096))
        let base = try #require(device.attach(pages))
        let piece = PagePiece(pfn: base, offset: 100, byteCount: 200)
        var segments: [BusSegment] = []
        let handle = try device.map([piece].span, .bidirectional, into: &segments)
        let segment = segments[0]
        for place in [-1, 4096 - 199, 4096, .min, .max] {
            let answers = [
                device.read(piece, into: own, at: place), device.write(piece, from: own, at: place),
                device.bus.read(segment, into: own, at: place), device.bus.write(segment, from: own, at: place),
            ]
            #expect(answers == [false, false, false, false], "\(place)")
            #expect(device.readHead(piece, count: 200, into: own, at: place) == 0)
            #expect(device.bus.readHead(segment, count: 200, into: own, at: place) == 0)
        }
        var sum = WordSum()
        for place in [-1, 200, 201, 5000, .min, .max] {
            #expect(device.readHead(piece, count: place, into: own, at: 0) == (place == 200 ? 200 : 0))
            let isStored = [
                device.store(1, high: (piece, place), low: (piece, 0)), device.store(1, high: (piece, 0), low: (piece, place)),
                device.bus.store(1, high: (segment, place), low: (segment, 0)),
                device.bus.store(1, high: (segment, 0), low: (segment, place)),
            ]
            #expect(isStored == [false, false, false, false], "\(place)")
            let range = place < 0 ? place..<1 : 0..<place
            let isAdded = [device.add(piece, range, to: &sum), device.bus.add(segment, range, to: &sum)]
            #expect(isAdded == [place == 200, place == 200], "\(place)")
        }
        // As long as a piece's numbers can say, and longer than its segment.
        let long = PagePiece(pfn: base, offset: 100, byteCount: .max)
        for place in [Int(UInt32.max), Int(UInt32.max) - 100, 1 << 31, 5000] {
            #expect(!device.store(1, high: (long, place), low: (piece, 0)))
            #expect(!device.add(long, place..<place + 1, to: &sum) && !device.add(long, 0..<place, to: &sum))
            #expect(device.readHead(long, count: place, into: own, at: 0) == 0)
        }
        #expect(!device.copy(long, to: base) && !device.read(long, into: own, at: 0) && !device.write(long, from: own, at: 0))
        #expect(device.bus.readHead(segment, count: 201, into: own, at: 0) == 200)
        // Numbers that an address has no room for are not some other page's.
        for number in [base.rawValue | 1 << 52, base.rawValue | 1 << 63, .max] {
            let beyond = PagePiece(pfn: pfn(number), offset: 0, byteCount: 8)
            #expect(!device.read(beyond, into: own, at: 0))
            #expect(throws: DMAError.noSuchPage(pfn(number))) { _ = try device.map([beyond].span, .toDevice, into: &segments) }
        }
        try device.unmap(handle, .bidirectional)
    }
}
