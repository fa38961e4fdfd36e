// causeway_space_…: what a real device reaches.

import CCausewayTranslation
import DMA
import FrameMaps
import Glibc
import HostIommu
import LinuxSystem
import SharedMemory

/// See causeway_translation.h.
@c @implementation
public func causeway_space_open(
    _ name: UnsafePointer<CChar>?, _ budget: UInt64, _ space: UnsafeMutablePointer<OpaquePointer?>?,
    _ message: UnsafeMutablePointer<CChar>?, _ size: Int
) -> Int32 {
    answering {
        let name = try text(name)
        let out = try Place(space)
        let account = LockedMemoryAccount(limit: budget == 0 ? nil : budget, within: .ofThisProcess)
        do throws(DMABackEndError) { out.put(handleOf: SpaceObject(try DeviceSpace.open(name, account: account))) } catch {
            put("\(error)", message, size)
            throw error
        }
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_destroy(_ space: OpaquePointer?) { giveBack(space, SpaceObject.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_space_message(_ space: OpaquePointer?, _ message: UnsafeMutablePointer<CChar>?, _ size: Int) -> Int32 {
    answering {
        guard let words = try object(space, SpaceObject.self).lastRefusal else { throw ErrorNumber(ENOENT) }
        put(words, message, size)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_get_info(_ space: OpaquePointer?, _ info: UnsafeMutablePointer<causeway_space_info>?) -> Int32 {
    answering(space) { here in
        let out = try Place(info)
        let limits = here.space.limits
        out.put(
            causeway_space_info(
                page_sizes: limits.pageSizes, mappings: UInt64(here.space.mapped.count),
                mappings_left: limits.mappingsLeft.map { UInt64($0) } ?? .max))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_get_account(_ space: OpaquePointer?, _ account: UnsafeMutablePointer<causeway_account>?) -> Int32 {
    answering(space) { here in
        let out = try Place(account)
        let counted = here.space.account
        let refused = counted.refused
        out.put(
            causeway_account(
                limit: counted.limit ?? .max, used: counted.bytes, left: counted.bytesLeft ?? .max, refused_bytes: refused.bytes,
                refused_count: refused.count))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_addresses(
    _ space: OpaquePointer?, _ which: UInt32, _ ranges: UnsafeMutablePointer<causeway_addresses>?, _ capacity: Int,
    _ count: UnsafeMutablePointer<Int>?
) -> Int32 {
    answering(space) { here in
        let (places, count) = (try Places(ranges, capacity), try Place(count))
        let wanted: DeviceSpace.Addresses
        switch which {
        case CAUSEWAY_ADDRESSES_ALLOWED: wanted = .allowed
        case CAUSEWAY_ADDRESSES_RESERVED: wanted = .reserved
        case CAUSEWAY_ADDRESSES_FREE: wanted = .free
        default: throw Refusal(EINVAL, "addresses of kind \(which): one of CAUSEWAY_ADDRESSES_…")
        }
        let all = here.space.addresses(wanted)
        count.put(all.count)
        for (index, range) in all.prefix(capacity).enumerated() {
            places.put(causeway_addresses(first: range.lowerBound, last: range.upperBound), at: index)
        }
        if all.count > capacity { throw Refusal(ENOBUFS, "\(all.count) ranges, and room for \(capacity)") }
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_map(
    _ space: OpaquePointer?, _ memory: UnsafeMutableRawPointer?, _ byte_count: UInt64, _ bits: UInt32, _ wanted: UInt64,
    _ iova: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering(space) { here in
        let out = try Place(iova)
        let way = try direction(permissions: bits)
        let region = try lentPages(memory, byte_count, writable: way != .toDevice)
        out.put(try map(here, region, way, wanted).rawValue)
    }
}

private func map(_ here: SpaceObject, _ region: SharedRegion, _ way: DMADirection, _ wanted: UInt64) throws -> Iova {
    guard let run = MemoryRun(region) else { throw Refusal(EINVAL, "no pages") }
    return try here.space.map(run, way, at: wanted == .max ? nil : Iova(rawValue: wanted))
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_map_descriptor(
    _ space: OpaquePointer?, _ descriptor: Int32, _ offset: UInt64, _ byte_count: UInt64, _ bits: UInt32, _ wanted: UInt64,
    _ iova: UnsafeMutablePointer<UInt64>?, _ memory: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> Int32 {
    answering(space) { here in
        let (out, place) = (try Place(iova), try Place(memory))
        let way = try direction(permissions: bits)
        let region = try fileRegion(descriptor, offset, byte_count, deviceWrites: way != .toDevice)
        out.put(try map(here, region, way, wanted).rawValue)
        // The mapping keeps the region until it ends.
        place.put(address: region.address)
    }
}

/// A part of a file in memory, mapped here: to be written if that may be, for what a device reads somebody writes.
private func fileRegion(_ number: Int32, _ offset: UInt64, _ byteCount: UInt64, deviceWrites: Bool) throws -> SharedRegion {
    guard offset & 4095 == 0, byteCount > 0, byteCount & 4095 == 0, offset < 1 << 62, byteCount <= processLimit else {
        throw Refusal(EINVAL, "\(byteCount) bytes from \(offset) of descriptor \(number): whole pages of 4096 bytes")
    }
    let file: Descriptor
    let length: UInt64
    do throws(Errno) {
        file = try Descriptor.duplicate(of: number)
        length = UInt64(max(0, try file.status().st_size))
    } catch { throw Refusal(error.rawValue, "descriptor \(number): \(error)") }
    guard offset <= length, byteCount <= length - offset else {
        throw Refusal(ERANGE, "\(byteCount) bytes from \(offset) of descriptor \(number), whose file has \(length)")
    }
    do throws(Errno) {
        return try SharedRegion(mapping: file, offset: Int(offset), byteCount: Int(byteCount), writable: true)
    } catch {
        guard !deviceWrites, error.rawValue == EACCES || error.rawValue == EPERM else {
            throw Refusal(error.rawValue, "descriptor \(number): \(error)")
        }
        return try SharedRegion(mapping: file, offset: Int(offset), byteCount: Int(byteCount), writable: false)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_unmap(
    _ space: OpaquePointer?, _ iova: UInt64, _ byte_count: UInt64, _ unmapped: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering(space) { here in
        let out = try Place(unmapped)
        out.put(try here.space.unmap(Iova(rawValue: iova), byteCount: byte_count))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_unmap_all(_ space: OpaquePointer?, _ unmapped: UnsafeMutablePointer<UInt64>?) -> Int32 {
    answering(space) { here in
        let out = try Place(unmapped)
        out.put(try here.space.unmapAll())
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_bus_address(
    _ space: OpaquePointer?, _ memory: UnsafeRawPointer?, _ byte_count: UInt64, _ iova: UnsafeMutablePointer<UInt64>?,
    _ in_row: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    // What a driver asks for each of its buffers: nothing is thrown here, and nothing put into words.
    guard let here = known(space, SpaceObject.self), let out = try? Place(iova), let row = try? Place(in_row), byte_count > 0 else {
        return -EINVAL
    }
    guard let found = here.space.busAddress(of: UInt64(UInt(bitPattern: memory)), byteCount: byte_count) else { return -ENOENT }
    out.put(found.iova.rawValue)
    row.put(found.inRow)
    return 0
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_pointer(
    _ space: OpaquePointer?, _ iova: UInt64, _ memory: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> Int32 {
    answering {
        let here = try object(space, SpaceObject.self)
        let out = try Place(memory)
        guard let address = here.space.address(of: Iova(rawValue: iova)) else { throw ErrorNumber(ENOENT) }
        out.put(address: address)
    }
}
