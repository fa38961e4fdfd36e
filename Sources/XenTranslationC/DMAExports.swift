// causeway_dma_…

import CCausewayTranslation
import DMA
import FrameMaps
import Glibc
import SharedMemory

/// What a DMA handle stands for.
final class DMAObject {
    let device: DMADevice
    /// Attached memory by its address.
    var regions: [UInt: SharedRegion] = [:]
    init(_ device: DMADevice) { self.device = device }

    deinit { for region in regions.values { device.detach(region) } }
}

private let mostPieces = 1 << 16

private func direction(_ number: UInt32) throws(Refusal) -> DMADirection {
    switch number {
    case CAUSEWAY_TO_DEVICE: .toDevice
    case CAUSEWAY_FROM_DEVICE: .fromDevice
    default: throw Refusal(EINVAL)
    }
}

/// All ones from below, or nothing.
private func isMask(_ mask: UInt64) -> Bool { mask & (mask &+ 1) == 0 }

private func constraints(_ options: causeway_dma_options) throws(Refusal) -> DMAConstraints {
    let alignment = max(options.minimum_alignment, 1)
    guard isMask(options.mask), isMask(options.boundary_mask), alignment & (alignment - 1) == 0,
        options.flags & ~CAUSEWAY_DMA_UNTRUSTED == 0
    else { throw Refusal(EINVAL) }
    return DMAConstraints(
        mask: options.mask == 0 ? .max : options.mask, boundaryMask: options.boundary_mask == 0 ? .max : options.boundary_mask,
        maximumSegmentSize: options.maximum_segment_size == 0 ? .max : options.maximum_segment_size,
        maximumSegments: options.maximum_segments == 0 ? .max : Int(options.maximum_segments), minimumAlignment: alignment,
        isUntrusted: options.flags & CAUSEWAY_DMA_UNTRUSTED != 0)
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_create(
    _ name: UnsafePointer<CChar>?, _ options: UnsafePointer<causeway_dma_options>?, _ dma: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    answering {
        let name = unsafe String(cString: try given(name))
        let options = unsafe try given(options).pointee
        let out = unsafe try given(dma)
        guard options.bounce_pool_bytes <= 1 << 31 else { throw Refusal(EINVAL) }
        let all = DMAOptions(
            model: try memoryModel(options.model), iommu: try iommuMode(options.iommu), constraints: try constraints(options),
            bouncePool: Int(options.bounce_pool_bytes), seed: options.seed)
        unsafe out.pointee = handle(DMAObject(try DMADevice(name: name, options: all)))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_destroy(_ dma: OpaquePointer?) { unsafe giveBack(dma, DMAObject.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_attach(
    _ dma: OpaquePointer?, _ memory: UnsafeMutableRawPointer?, _ byte_count: UInt64, _ bits: UInt32,
    _ pfn: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering {
        let here = unsafe try given(object(dma, DMAObject.self))
        let (memory, out) = unsafe (try given(memory), try given(pfn))
        let address = UInt(bitPattern: memory)
        guard address & 4095 == 0, byte_count > 0, byte_count & 4095 == 0, byte_count <= 1 << 36, bits == CAUSEWAY_READ || bits == 3
        else { throw Refusal(EINVAL) }
        if here.regions[address] != nil { throw Refusal(EEXIST) }
        // SAFETY: the caller keeps the memory mapped until it is detached, as the header says; nothing is unmapped here.
        let region = unsafe SharedRegion(adopting: memory, byteCount: Int(byte_count), writable: bits == 3) { _, _ in }
        guard let first = here.device.attach(region) else { throw Refusal(ENOMEM) }
        here.regions[address] = region
        unsafe out.pointee = first.rawValue
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_detach(_ dma: OpaquePointer?, _ memory: UnsafeMutableRawPointer?) -> Int32 {
    answering {
        let here = unsafe try given(object(dma, DMAObject.self))
        let address = unsafe UInt(bitPattern: try given(memory))
        guard let region = here.regions.removeValue(forKey: address) else { throw Refusal(ENOENT) }
        here.device.detach(region)
    }
}

private func map(
    _ here: DMAObject, _ pieces: [PagePiece], _ way: DMADirection, _ segments: UnsafeMutablePointer<causeway_segment>?,
    _ capacity: Int,
    _ count: UnsafeMutablePointer<Int>, _ handle: UnsafeMutablePointer<UInt64>
) throws {
    guard capacity >= 0, unsafe capacity == 0 || segments != nil else { throw Refusal(EINVAL) }
    var list: [BusSegment] = []
    let made = try here.device.map(pieces.span, way, into: &list)
    unsafe count.pointee = list.count
    guard list.count <= capacity else {
        try here.device.unmap(made, way)
        throw Refusal(ENOBUFS)
    }
    for (index, segment) in list.enumerated() {
        unsafe segments?[index] = causeway_segment(address: segment.address.rawValue, byte_count: segment.byteCount, reserved: 0)
    }
    unsafe handle.pointee = made.number
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_map(
    _ dma: OpaquePointer?, _ pieces: UnsafePointer<causeway_piece>?, _ piece_count: Int, _ way: UInt32,
    _ segments: UnsafeMutablePointer<causeway_segment>?, _ capacity: Int, _ count: UnsafeMutablePointer<Int>?,
    _ handle: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering {
        let here = unsafe try given(object(dma, DMAObject.self))
        let (pieces, count, handle) = unsafe (try given(pieces), try given(count), try given(handle))
        guard piece_count > 0, piece_count <= mostPieces else { throw Refusal(EINVAL) }
        let list = unsafe UnsafeBufferPointer(start: pieces, count: piece_count).map {
            PagePiece(pfn: Pfn(rawValue: $0.pfn), offset: $0.offset, byteCount: $0.byte_count)
        }
        // The direct map takes what it is given; from a stranger it is checked.
        guard list.allSatisfy({ $0.byteCount > 0 && UInt64($0.offset) + UInt64($0.byteCount) <= 4096 }) else {
            throw Refusal(EINVAL)
        }
        unsafe try map(here, list, direction(way), segments, capacity, count, handle)
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
        let here = unsafe try given(object(dma, DMAObject.self))
        let (count, handle) = unsafe (try given(count), try given(handle))
        guard offset < 4096, byte_count > 0, byte_count <= UInt64(mostPieces - 1) * 4096,
            pfn < frameNumberLimit - UInt64(mostPieces)
        else {
            throw Refusal(EINVAL)
        }
        var pieces: [PagePiece] = []
        var (page, place, left) = (pfn, UInt64(offset), byte_count)
        while left > 0 {
            let part = min(left, 4096 - place)
            pieces.append(PagePiece(pfn: Pfn(rawValue: page), offset: UInt32(place), byteCount: UInt32(part)))
            (page, place, left) = (page + 1, 0, left - part)
        }
        unsafe try map(here, pieces, direction(way), segments, capacity, count, handle)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_unmap(_ dma: OpaquePointer?, _ handle: UInt64, _ way: UInt32) -> Int32 {
    answering {
        let here = unsafe try given(object(dma, DMAObject.self))
        try here.device.unmap(DMAHandle(number: handle), direction(way))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_sync_for_cpu(_ dma: OpaquePointer?, _ handle: UInt64, _ offset: UInt64, _ byte_count: UInt64) -> Int32 {
    answering {
        let here = unsafe try given(object(dma, DMAObject.self))
        guard offset <= 1 << 40, byte_count <= 1 << 40 else { throw Refusal(ERANGE) }
        try here.device.syncForCPU(DMAHandle(number: handle), offset: Int(offset), byteCount: Int(byte_count))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_sync_for_device(_ dma: OpaquePointer?, _ handle: UInt64, _ offset: UInt64, _ byte_count: UInt64) -> Int32 {
    answering {
        let here = unsafe try given(object(dma, DMAObject.self))
        guard offset <= 1 << 40, byte_count <= 1 << 40 else { throw Refusal(ERANGE) }
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
        let here = unsafe try given(object(dma, DMAObject.self))
        let (memory, available) = unsafe (try given(memory), try given(available))
        let segment = BusSegment(address: BusAddress(rawValue: address), byteCount: byte_count)
        guard let run = unsafe here.device.bus.resolveRun(segment, try direction(way)) else { throw Refusal(EFAULT) }
        unsafe memory.pointee = run.memory
        unsafe available.pointee = run.byteCount
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_get_statistics(_ dma: OpaquePointer?, _ statistics: UnsafeMutablePointer<causeway_dma_statistics>?)
    -> Int32
{
    answering {
        let here = unsafe try given(object(dma, DMAObject.self))
        let out = unsafe try given(statistics)
        let done = here.device.statistics
        let pool = here.device.pool
        unsafe out.pointee = causeway_dma_statistics(
            maps: done.maps, unmaps: done.unmaps, live: UInt64(here.device.liveMappings), misuses: done.misuses,
            bounces: BounceReason.allCases.reduce(0) { $0 + done.bounces[$1] }, pool_slots: UInt64(pool?.slotCount ?? 0),
            pool_slots_in_use: UInt64(pool?.slotsInUse ?? 0), pool_largest_request: UInt64(pool?.largestRequest ?? 0))
    }
}
