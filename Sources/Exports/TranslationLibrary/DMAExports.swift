// causeway_dma_…

import CCausewayTranslation
import DMA
import FrameMaps
import Glibc
import SharedMemory

/// What a DMA handle stands for.
final class DMAObject {
    let device: DMADevice
    /// Attached memory, by ascending addresses; no two overlap.
    private var regions: [SharedRegion] = []
    var faults = UntoldFaults()
    /// By their handles.
    var coherent: [UInt64: CoherentMemory] = [:]
    init(_ device: DMADevice) { self.device = device }

    deinit { for region in regions { device.detach(region) } }

    /// How many of the regions begin below an address.
    private func place(_ address: UInt64) -> Int {
        var (low, high) = (0, regions.count)
        while low < high {
            let middle = (low + high) / 2
            if regions[middle].address < address { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Attaches it. Throws EEXIST if some of it is attached, ENOMEM if numbers or tables have run out.
    func attach(_ region: SharedRegion) throws(ErrorNumber) -> Pfn {
        let place = place(region.address)
        if place < regions.count, regions[place].address < region.address + UInt64(region.byteCount) { throw ErrorNumber(EEXIST) }
        if place > 0, regions[place - 1].address + UInt64(regions[place - 1].byteCount) > region.address {
            throw ErrorNumber(EEXIST)
        }
        guard let first = device.attach(region) else { throw ErrorNumber(ENOMEM) }
        regions.insert(region, at: place)
        return first
    }

    /// Detaches what begins at an address. Throws ENOENT if nothing does.
    func detach(_ address: UInt64) throws(ErrorNumber) {
        let place = place(address)
        guard place < regions.count, regions[place].address == address else { throw ErrorNumber(ENOENT) }
        device.detach(regions.remove(at: place))
    }
}

/// One past the addresses of a process's memory, with 48 bits of them.
private let addressLimit: UInt64 = 1 << 47

private let mostPieces = 1 << 16

private func direction(_ number: UInt32) throws(ErrorNumber) -> DMADirection {
    switch number {
    case CAUSEWAY_TO_DEVICE: .toDevice
    case CAUSEWAY_FROM_DEVICE: .fromDevice
    case CAUSEWAY_BIDIRECTIONAL: .bidirectional
    default: throw ErrorNumber(EINVAL)
    }
}

/// All ones from below, or nothing.
private func isMask(_ mask: UInt64) -> Bool { mask & (mask &+ 1) == 0 }

private func constraints(_ options: causeway_dma_options) throws(ErrorNumber) -> DMAConstraints {
    let alignment = max(options.minimum_alignment, 1)
    guard isMask(options.mask), isMask(options.boundary_mask), alignment & (alignment - 1) == 0,
        options.flags & ~(CAUSEWAY_DMA_UNTRUSTED | 0xF00) == 0, options.flags >> 8 <= 12
    else { throw ErrorNumber(EINVAL) }
    return DMAConstraints(
        mask: options.mask == 0 ? .max : options.mask, boundaryMask: options.boundary_mask == 0 ? .max : options.boundary_mask,
        maximumSegmentSize: options.maximum_segment_size == 0 ? .max : options.maximum_segment_size,
        maximumSegments: options.maximum_segments == 0 ? .max : Int(options.maximum_segments),
        keptAddressMask: 1 << UInt64(options.flags >> 8) - 1, minimumAlignment: alignment,
        isUntrusted: options.flags & CAUSEWAY_DMA_UNTRUSTED != 0)
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_create(
    _ name: UnsafePointer<CChar>?, _ options: UnsafePointer<causeway_dma_options>?, _ dma: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    answering {
        let name = try text(name)
        let options = try value(options)
        let out = try Place(dma)
        guard options.bounce_pool_bytes <= 1 << 31 else { throw ErrorNumber(EINVAL) }
        let all = DMAOptions(
            model: try memoryModel(options.model), iommu: try iommuMode(options.iommu), constraints: try constraints(options),
            bouncePool: Int(options.bounce_pool_bytes), seed: options.seed)
        out.put(handleOf: DMAObject(try DMADevice(name: name, options: all)))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_destroy(_ dma: OpaquePointer?) { giveBack(dma, DMAObject.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_attach(
    _ dma: OpaquePointer?, _ memory: UnsafeMutableRawPointer?, _ byte_count: UInt64, _ bits: UInt32,
    _ pfn: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        let out = try Place(pfn)
        let address = UInt(bitPattern: memory)
        guard let memory = unsafe memory, address & 4095 == 0, byte_count > 0, byte_count & 4095 == 0, byte_count <= 1 << 36,
            bits == CAUSEWAY_READ || bits == 3, UInt64(address) < addressLimit, byte_count <= addressLimit - UInt64(address)
        else { throw ErrorNumber(EINVAL) }
        // SAFETY: the caller keeps the memory mapped until it is detached, as the header says; nothing is unmapped
        // here.
        let region = unsafe SharedRegion(adopting: memory, byteCount: Int(byte_count), writable: bits == 3) { _, _ in }
        out.put(try here.attach(region).rawValue)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_detach(_ dma: OpaquePointer?, _ memory: UnsafeMutableRawPointer?) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        let address = UInt(bitPattern: memory)
        if address == 0 { throw ErrorNumber(EINVAL) }
        try here.detach(UInt64(address))
    }
}

private func map(
    _ here: DMAObject, _ pieces: [PagePiece], _ way: DMADirection, _ segments: Places<causeway_segment>, _ count: Place<Int>,
    _ handle: Place<UInt64>
) throws {
    var list: [BusSegment] = []
    let made = try here.device.map(pieces.span, way, into: &list)
    count.put(list.count)
    guard list.count <= segments.capacity else {
        try here.device.unmap(made, way)
        throw ErrorNumber(ENOBUFS)
    }
    for (index, segment) in list.enumerated() {
        segments.put(causeway_segment(address: segment.address.rawValue, byte_count: segment.byteCount, reserved: 0), at: index)
    }
    handle.put(made.number)
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_map(
    _ dma: OpaquePointer?, _ pieces: UnsafePointer<causeway_piece>?, _ piece_count: Int, _ way: UInt32,
    _ segments: UnsafeMutablePointer<causeway_segment>?, _ capacity: Int, _ count: UnsafeMutablePointer<Int>?,
    _ handle: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        let (count, handle) = (try Place(count), try Place(handle))
        let list = try list(pieces, count: piece_count, most: mostPieces) {
            PagePiece(pfn: Pfn(rawValue: $0.pfn), offset: $0.offset, byteCount: $0.byte_count)
        }
        // Of a number that no page has it is said so.
        guard list.allSatisfy({ $0.pfn.rawValue < frameNumberLimit }) else { throw ErrorNumber(ERANGE) }
        try map(here, list, direction(way), Places(segments, capacity), count, handle)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_map_single(
    _ dma: OpaquePointer?, _ pfn: UInt64, _ offset: UInt32, _ byte_count: UInt64, _ way: UInt32,
    _ segments: UnsafeMutablePointer<causeway_segment>?, _ capacity: Int, _ count: UnsafeMutablePointer<Int>?,
    _ handle: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        let (count, handle) = (try Place(count), try Place(handle))
        guard offset < 4096, byte_count > 0, byte_count <= UInt64(mostPieces - 1) * 4096,
            pfn < frameNumberLimit - UInt64(mostPieces)
        else {
            throw ErrorNumber(EINVAL)
        }
        var pieces: [PagePiece] = []
        var (page, place, left) = (pfn, UInt64(offset), byte_count)
        while left > 0 {
            let part = min(left, 4096 - place)
            pieces.append(PagePiece(pfn: Pfn(rawValue: page), offset: UInt32(place), byteCount: UInt32(part)))
            (page, place, left) = (page + 1, 0, left - part)
        }
        try map(here, pieces, direction(way), Places(segments, capacity), count, handle)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_unmap(_ dma: OpaquePointer?, _ handle: UInt64, _ way: UInt32) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        try here.device.unmap(DMAHandle(number: handle), direction(way))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_sync_for_cpu(_ dma: OpaquePointer?, _ handle: UInt64, _ offset: UInt64, _ byte_count: UInt64) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        guard offset <= 1 << 40, byte_count <= 1 << 40 else { throw ErrorNumber(ERANGE) }
        try here.device.syncForCPU(DMAHandle(number: handle), offset: Int(offset), byteCount: Int(byte_count))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_sync_for_device(_ dma: OpaquePointer?, _ handle: UInt64, _ offset: UInt64, _ byte_count: UInt64) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        guard offset <= 1 << 40, byte_count <= 1 << 40 else { throw ErrorNumber(ERANGE) }
        try here.device.syncForDevice(DMAHandle(number: handle), offset: Int(offset), byteCount: Int(byte_count))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_resolve(
    _ dma: OpaquePointer?, _ address: UInt64, _ byte_count: UInt32, _ way: UInt32,
    _ memory: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _ available: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        let (memory, available) = (try Place(memory), try Place(available))
        let segment = BusSegment(address: BusAddress(rawValue: address), byteCount: byte_count)
        here.device.iommu?.offerMiss(Iova(rawValue: address), writes: way != CAUSEWAY_TO_DEVICE)
        // SAFETY: an address and a length, for the caller: of memory that it attached, until it detaches that, or of
        // the pool's, until it unmaps.
        guard let run = unsafe here.device.bus.resolveRun(segment, try direction(way)) else { throw ErrorNumber(EFAULT) }
        unsafe memory.put(run.memory)
        unsafe available.put(run.byteCount)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_flush(_ dma: OpaquePointer?) -> Int32 {
    answering { try object(dma, DMAObject.self).device.iommu?.flush() }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_stale_count(_ dma: OpaquePointer?, _ count: UnsafeMutablePointer<Int>?) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        let out = try Place(count)
        out.put(here.device.iommu?.staleCount ?? 0)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_next_fault(_ dma: OpaquePointer?, _ fault: UnsafeMutablePointer<causeway_fault>?) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        let out = try Place(fault)
        out.put(try here.faults.next(of: here.device.iommu))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_fault_count(_ dma: OpaquePointer?) -> UInt64 {
    known(dma, DMAObject.self)?.device.iommu?.faults.count ?? 0
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_get_statistics(_ dma: OpaquePointer?, _ statistics: UnsafeMutablePointer<causeway_dma_statistics>?)
    -> Int32
{
    answering {
        let here = try object(dma, DMAObject.self)
        let out = try Place(statistics)
        let done = here.device.statistics
        let pool = here.device.pool
        out.put(
            causeway_dma_statistics(
                maps: done.maps, unmaps: done.unmaps, live: UInt64(here.device.liveMappings), misuses: done.misuses,
                bounces: BounceReason.allCases.reduce(0) { $0 + done.bounces[$1] }, pool_slots: UInt64(pool?.slotCount ?? 0),
                pool_slots_in_use: UInt64(pool?.slotsInUse ?? 0), pool_largest_request: UInt64(pool?.largestRequest ?? 0)))
    }
}
