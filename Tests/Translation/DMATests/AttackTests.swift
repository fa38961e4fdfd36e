// What of attacks.md PM4 to PM16 is about devices, bounce memory and accounting: what has gone wrong in hypervisors'
// tables must not in ours.

import FrameMaps
import SharedMemory
import Synchronization
import Testing
import TestSupport

@testable import DMA

@Suite(.timeLimit(.minutes(2)))
struct AttackTests {
    private func region(_ pages: Int, _ byte: UInt8) throws -> SharedRegion {
        let region = try SharedRegion(anonymous: pages * 4096)
        region.fill(0, count: pages * 4096, with: byte)
        return region
    }

    private func byte(_ device: DMADevice, _ segment: BusSegment) -> UInt8? {
        guard let run = device.bus.resolveRun(segment, .toDevice) else { return nil }
        return unsafe run.memory.load(as: UInt8.self)
    }

    /// attacks.md PM4: a device that changes domains takes no translation along, though its IO addresses are the same
    /// ones.
    @Test(arguments: [IommuMode.strict, .deferred])
    func PM4_deviceChangesDomain(_ mode: IommuMode) throws {
        let options = DMAOptions(model: .p2m, iommu: mode)
        let secret = try region(1, 0xAA)
        var kept: [BusSegment] = []
        do {
            let before = try DMADevice(name: "d", options: options)
            let piece = [PagePiece(pfn: try #require(before.attach(secret)), offset: 0, byteCount: 4096)]
            let handle = try before.map(piece.span, .toDevice, into: &kept)
            #expect(byte(before, kept[0]) == 0xAA)
            try before.unmap(handle, .toDevice)
            before.detach(secret)
            // Detached: gone, in deferred mode, too.
            #expect(byte(before, kept[0]) == nil)
            try before.close()
        }
        let after = try DMADevice(name: "d", options: options)
        #expect(byte(after, kept[0]) == nil)
        let own = try region(1, 0xBB)
        var segments: [BusSegment] = []
        let piece = [PagePiece(pfn: try #require(after.attach(own)), offset: 0, byteCount: 4096)]
        let handle = try after.map(piece.span, .toDevice, into: &segments)
        #expect(segments == kept && byte(after, segments[0]) == 0xBB)
        try after.unmap(handle, .toDevice)
    }

    /// attacks.md PM7: an entry is removed whatever state it is in: read-only, write-only, marked dirty, remembered,
    /// part of a large page, a bounce slot's.
    @Test func PM7_everyEntryIsRemoved() throws {
        let domain = try IommuDomain(device: "d", mode: .strict)
        domain.tracksDirty = true
        for permissions in [FramePermissions.read, .write, .readWrite] {
            for isRemembered in [false, true] {
                for pages in [1, 3, 512, 1024] {
                    let start = Iova(rawValue: 1 << 32)
                    try domain.link(start, to: bus(1 << 20), pages: pages, permissions)
                    if isRemembered {
                        _ = domain.translate(start, writes: false)
                        _ = domain.translate(start, writes: true)
                    }
                    try domain.unlink(start, pages: pages)
                    try domain.invalidate(start, pages: pages)
                    for page in [0, pages / 2, pages - 1] {
                        let iova = start.advanced(by: UInt64(page) << 12)!
                        #expect(domain.lookup(iova) == nil)
                        #expect(domain.translate(iova, writes: false) == nil && domain.translate(iova, writes: true) == nil)
                    }
                }
            }
        }
        #expect(domain.tableByteCount == 0)
        let device = try DMADevice(
            name: "d",
            options: DMAOptions(model: .p2m, iommu: .strict, constraints: DMAConstraints(isUntrusted: true), bouncePool: 65536))
        let memory = try region(1, 1)
        var segments: [BusSegment] = []
        let piece = [PagePiece(pfn: try #require(device.attach(memory)), offset: 100, byteCount: 100)]
        let handle = try device.map(piece.span, .fromDevice, into: &segments)
        #expect(device.statistics.bounces[.subGranule] == 1 && device.bus.isReachable(segments[0], .fromDevice))
        try device.unmap(handle, .fromDevice)
        #expect(!device.bus.isReachable(segments[0], .fromDevice))
    }

    /// attacks.md PM9: what is there stays: no mapping is laid over another, over the bounce pool's frames, or over
    /// another region's.
    @Test func PM9_nothingIsOverlaid() throws {
        let domain = try IommuDomain(device: "d", mode: .strict)
        let start = Iova(rawValue: 1 << 32)
        try domain.link(start, to: bus(7), pages: 600, .read)
        for (page, pages) in [(0, 1), (599, 1), (0, 600), (300, 900), (511, 2)] {
            let iova = start.advanced(by: UInt64(page) << 12)!
            #expect(throws: DMAError.alreadyLinked(iova)) { try domain.link(iova, to: bus(9000), pages: pages, .readWrite) }
        }
        #expect(throws: DMAError.alreadyLinked(start)) {
            try domain.link(Iova(rawValue: start.rawValue - 4096), to: bus(9000), pages: 2, .readWrite)
        }
        try domain.link(Iova(rawValue: 1 << 36), to: bus(1 << 18), pages: 1 << 18, .read)
        #expect(throws: DMAError.self) { try domain.link(Iova(rawValue: 1 << 36 + 5 << 12), to: bus(3), pages: 1, .readWrite) }
        #expect(domain.lookup(start)?.frame == bus(7) && domain.lookup(start)?.permissions == .read)

        // A hypervisor that names the pool's frames, or too few, or frames beyond the machine, is not believed.
        let device = try DMADevice(
            name: "d", options: DMAOptions(model: .p2m, constraints: DMAConstraints(mask: 0xFFFF_FFFF), bouncePool: 65536))
        let memory = try region(2, 1)
        for frames in [[1, 2], [1 << 20], [(1 << 20) - 1, 1 << 20], [1 << 20, 1 << 40]] as [[UInt64]] {
            #expect(device.attach(memory, machine: frames) == nil)
        }
        let base = try #require(device.attach(memory, machine: [1 << 21, 1 << 22]))
        // Another region's frames, or the same one's twice.
        #expect(device.frames?.map.frame(of: base) == bus(1 << 21))
        var segments: [BusSegment] = []
        let handle = try device.map([PagePiece(pfn: base, offset: 0, byteCount: 8)].span, .toDevice, into: &segments)
        try device.unmap(handle, .toDevice)
        device.detach(memory)
        #expect(device.frames?.map.foreignPageCount == 0)
    }

    /// A run seen by two regions, read-only and writable: a device writes through the one, whichever came first, and
    /// what is left serves on.
    @Test(arguments: [true, false])
    func sharedMachineFrames(_ readOnlyFirst: Bool) throws {
        let device = try DMADevice(name: "d", options: DMAOptions(model: .p2m))
        let memory = try region(1, 1)
        let sealed = unsafe SharedRegion(adopting: memory.unsafeBase, byteCount: 4096, writable: false) { _, _ in }
        let order = readOnlyFirst ? [sealed, memory] : [memory, sealed]
        let pfns = try order.map { try #require(device.attach($0, machine: [1 << 22])) }
        let (writable, readable) = readOnlyFirst ? (pfns[1], pfns[0]) : (pfns[0], pfns[1])
        var segments: [BusSegment] = []
        #expect(throws: DMAError.notWritable(readable)) {
            _ = try device.map([PagePiece(pfn: readable, offset: 0, byteCount: 1)].span, .fromDevice, into: &segments)
        }
        let handle = try device.map([PagePiece(pfn: writable, offset: 0, byteCount: 1)].span, .fromDevice, into: &segments)
        #expect(device.bus.isReachable(segments[0], .fromDevice))
        try device.unmap(handle, .fromDevice)
        device.detach(memory)
        #expect(!device.bus.isReachable(segments[0], .fromDevice) && device.bus.isReachable(segments[0], .toDevice))
        device.detach(sealed)
        #expect(!device.bus.isReachable(segments[0], .toDevice))
    }

    /// attacks.md PM11: a teardown is in slices that cost no more than their pages, so that nobody waits for ten
    /// million of them.
    @Test func PM11_teardownIsSliced() throws {
        let domain = try IommuDomain(device: "d", mode: .strict, tableLimit: 1 << 16)
        let start = Iova(rawValue: 1 << 36)
        let pages = 1 << 22
        try domain.link(start, to: bus(7), pages: pages, .readWrite)
        #expect(domain.tableByteCount >= pages * 8)
        let slice = 1 << 14
        var steps = 0
        var longest = Duration.zero
        let whole = ContinuousClock().measure {
            for page in stride(from: 0, to: pages, by: slice) {
                let time = ContinuousClock().measure {
                    try? domain.unlink(start.advanced(by: UInt64(page) << 12)!, pages: slice)
                }
                longest = max(longest, time)
                steps += 1
            }
        }
        #expect(steps == pages / slice && domain.tableByteCount == 0)
        // Even with the machine's other work in between, a step is a small part of the whole.
        #expect(longest < whole / 4, "\(longest) of \(whole)")
        // A page at a time: no step has more than one table to give back.
        #expect(domain.lookup(start) == nil)
    }

    /// attacks.md PM13: memory is handed on clean, and only after the last who could still reach it: owner A's bytes
    /// are seen by nobody.
    @Test(arguments: [IommuMode?.none, .strict, .deferred])
    func PM13_pagesAreHandedOnClean(_ mode: IommuMode?) throws {
        let device = try DMADevice(name: "d", options: DMAOptions(model: .p2m, iommu: mode))
        let first = try device.allocateCoherent(4096)
        first.region.fill(0, count: 4096, with: 0xAA)
        #expect(byte(device, first.segment) == 0xAA)
        // Somebody slow has it still: in flight.
        let flight = device.bus.beginFlight()
        let address = try #require(device.bus.resolveRun(first.segment, .fromDevice))
        try device.freeCoherent(first)
        let second = try device.allocateCoherent(4096)
        #expect(second.segment == first.segment || mode != nil)
        #expect(second.region.bytes(at: 0, count: 4096).allSatisfy { $0 == 0 })
        // The late write goes to the old owner's memory, which is kept until then, and not to the new one's.
        unsafe address.memory.storeBytes(of: 0xEE, as: UInt8.self)
        #expect(second.region.bytes(at: 0, count: 1) == [0])
        device.bus.endFlight(flight)
        #expect(device.bus.retiredCount == 0)
        if mode != nil && second.segment != first.segment { #expect(byte(device, first.segment) == nil) }
        try device.freeCoherent(second)

        // The pool's slots: what an untrusted device is shown beyond the bytes that are meant is cleared.
        let options = DMAOptions(model: .p2m, iommu: mode, constraints: DMAConstraints(isUntrusted: true), bouncePool: 4096)
        let untrusted = try DMADevice(name: "u", options: options)
        let memory = try region(1, 0x55)
        let pfn = try #require(untrusted.attach(memory))
        for count in [2048, 100] as [UInt32] {
            var segments: [BusSegment] = []
            let handle = try untrusted.map([PagePiece(pfn: pfn, offset: 0, byteCount: count)].span, .toDevice, into: &segments)
            let all = try #require(untrusted.bus.resolveRun(BusSegment(address: segments[0].address, byteCount: 2048), .toDevice))
            let seen = unsafe (0..<Int(all.byteCount)).map { unsafe all.memory.load(fromByteOffset: $0, as: UInt8.self) }
            #expect(seen.prefix(Int(count)).allSatisfy { $0 == 0x55 } && seen.dropFirst(Int(count)).allSatisfy { $0 == 0 })
            try untrusted.unmap(handle, .toDevice)
        }
    }

    /// attacks.md PM14: threads at the limit together never get more than there is, and no sum wraps.
    @Test func PM14_accountingHoldsUnderContention() async {
        let pool = BouncePool(name: "p", byteCount: 1 << 20)
        #expect(!pool.claim(Int.max) && !pool.claim(0) && !pool.claim(-1))
        let tally = Tally()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    for round in 0..<20_000 {
                        let bytes = [4096, 300_000, 1 << 20, Int.max - 4096][round & 3]
                        guard pool.claim(bytes) else { continue }
                        let sum = tally.now.wrappingAdd(bytes, ordering: .sequentiallyConsistent).newValue
                        tally.most.max(sum, ordering: .sequentiallyConsistent)
                        tally.now.wrappingSubtract(bytes, ordering: .sequentiallyConsistent)
                        pool.unclaim(bytes)
                    }
                }
            }
        }
        let most = tally.most.load(ordering: .relaxed)
        #expect(most <= 1 << 20 && most > 0)
        #expect(tally.now.load(ordering: .relaxed) == 0 && pool.slotCount == 0)
    }

    /// attacks.md PM16: sizes, places in the page, alignments and boundaries at random: no slot is lent twice, and
    /// every promise is kept.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func PM16_slotsNeverOverlap(_ seed: UInt64) throws {
        var random = SplitMix(seed)
        for _ in 0..<8 {
            let boundary: UInt64 = [.max, 0xFFF, 0x1FFF, 0xFFFF].randomElement(using: &random)!
            let limits = DMAConstraints(
                mask: 0xFFFF_FFFF, boundaryMask: boundary, minimumAlignment: [1, 4, 512, 4096].randomElement(using: &random)!)
            let iommu: IommuMode? = [nil, .strict].randomElement(using: &random)!
            let device = try DMADevice(
                name: "d", options: DMAOptions(model: .p2m, iommu: iommu, constraints: limits, bouncePool: 1 << 19))
            let memory = try region(8, 1)
            let base = try #require(device.attach(memory))
            var live: [(handle: DMAHandle, ranges: [Range<UInt64>])] = []
            var taken: [UInt64: Int] = [:]
            for step in 0..<4000 {
                if live.isEmpty || Int.random(in: 0..<100, using: &random) < (step / 500 % 2 == 0 ? 65 : 35) {
                    let offset = UInt32.random(in: 0..<4096, using: &random)
                    let piece = PagePiece(
                        pfn: base.advanced(by: UInt64.random(in: 0..<8, using: &random))!, offset: offset,
                        byteCount: UInt32.random(in: 1...4096 - offset, using: &random))
                    var segments: [BusSegment] = []
                    guard let handle = try? device.map([piece].span, .toDevice, into: &segments) else { continue }
                    for segment in segments {
                        let last = segment.address.rawValue + UInt64(segment.byteCount) - 1
                        #expect(last <= limits.mask && segment.address.rawValue | boundary == last | boundary)
                    }
                    #expect(segments[0].address.rawValue & UInt64(limits.minimumAlignment - 1) == 0)
                    let ranges = segments.map { $0.address.rawValue..<$0.address.rawValue + UInt64($0.byteCount) }
                    // By 512 bytes and exactly at the ends: no byte of two transfers is in one place.
                    for (_, others) in live {
                        for range in ranges where others.contains(where: { $0.overlaps(range) }) {
                            Issue.record("lent twice: \(range), seed \(seed)")
                        }
                    }
                    for range in ranges { taken[range.lowerBound, default: 0] += 1 }
                    live.append((handle, ranges))
                } else {
                    let gone = live.remove(at: Int.random(in: live.indices, using: &random))
                    try device.unmap(gone.handle, .toDevice)
                    for range in gone.ranges { taken[range.lowerBound, default: 0] -= 1 }
                }
            }
            for gone in live { try device.unmap(gone.handle, .toDevice) }
            #expect(device.pool?.slotsInUse == 0 && device.liveMappings == 0)
        }
    }
}

private final class Tally: Sendable {
    let most = Atomic<Int>(0)
    let now = Atomic<Int>(0)
}
