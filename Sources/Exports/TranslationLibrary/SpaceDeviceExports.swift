// causeway_space_…: the device's side: what it wrote, what it was refused, and itself. causeway_vectors_….

import CCausewayTranslation
import FrameMaps
import Glibc
import HostIommu
import LinuxSystem

/// See causeway_translation.h.
@c @implementation
public func causeway_space_start_dirty(_ space: OpaquePointer?) -> Int32 {
    answering(space) { here in try here.space.startDirtyTracking() }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_stop_dirty(_ space: OpaquePointer?) -> Int32 {
    answering(space) { here in try here.space.stopDirtyTracking() }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_take_dirty(
    _ space: OpaquePointer?, _ iova: UInt64, _ byte_count: UInt64, _ bitmap: UnsafeMutablePointer<UInt8>?, _ capacity: Int
) -> Int32 {
    answering(space) { here in
        let out = try Places(bitmap, capacity)
        let needed = byte_count / 4096 / 8 + (byte_count / 4096 % 8 == 0 ? 0 : 1)
        if needed > UInt64(capacity) { throw Refusal(ENOBUFS, "a bitmap of \(needed) bytes, and room for \(capacity)") }
        let pages = try here.space.takeDirty(Iova(rawValue: iova), byteCount: byte_count)
        for first in stride(from: 0, to: pages.count, by: 8) {
            let bits = pages[first..<min(first + 8, pages.count)].enumerated().reduce(UInt8(0)) {
                $0 | ($1.element ? 1 << UInt8($1.offset) : 0)
            }
            out.put(bits, at: first / 8)
        }
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_access(
    _ space: OpaquePointer?, _ iova: UInt64, _ permission: UInt32, _ memory: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
) -> Int32 {
    answering(space) { here in
        let out = try Place(memory)
        guard permission == CAUSEWAY_READ || permission == CAUSEWAY_WRITE else {
            throw Refusal(EINVAL, "permission 0x\(String(permission, radix: 16)): CAUSEWAY_READ or CAUSEWAY_WRITE")
        }
        let access = permission == CAUSEWAY_WRITE ? "write" : "read"
        guard let address = try here.space.access(Iova(rawValue: iova), writes: permission == CAUSEWAY_WRITE) else {
            throw Refusal(EFAULT, "the device may not \(access) 0x\(String(iova, radix: 16))")
        }
        out.put(address: address)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_next_fault(_ space: OpaquePointer?, _ fault: UnsafeMutablePointer<causeway_fault>?) -> Int32 {
    answering {
        let here = try object(space, SpaceObject.self)
        let out = try Place(fault)
        out.put(try here.nextFault())
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_space_device(
    _ space: OpaquePointer?, _ address: UnsafePointer<CChar>?, _ descriptor: UnsafeMutablePointer<Int32>?
) -> Int32 {
    answering(space) { here in
        let out = try Place(descriptor)
        guard let name = optionalText(address) else {
            guard let device = here.device else {
                throw Refusal(ENOENT, "the space was opened without a device; name one by its PCI address")
            }
            out.put(try handedOut(device))
            return
        }
        guard let group = here.group else { throw Refusal(ENOENT, "\(name): the space was opened without a group") }
        out.put(try handedOut(try group(name)))
    }
}

/// How a device interrupts.
private func kind(_ number: UInt32) throws(Refusal) -> DeviceVectors.Kind {
    guard let kind = DeviceVectors.Kind(rawValue: number) else {
        throw Refusal(EINVAL, "vectors of kind \(number): one of CAUSEWAY_VECTORS_…")
    }
    return kind
}

/// See causeway_translation.h.
@c @implementation
public func causeway_vectors_available(_ device: Int32, _ number: UInt32, _ count: UnsafeMutablePointer<UInt32>?) -> Int32 {
    answering {
        let out = try Place(count)
        out.put(UInt32(try DeviceVectors.count(of: try kind(number), try Descriptor.duplicate(of: device))))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_vectors_open(
    _ device: Int32, _ number: UInt32, _ count: UInt32, _ vectors: UnsafeMutablePointer<OpaquePointer?>?,
    _ message: UnsafeMutablePointer<CChar>?, _ size: Int
) -> Int32 {
    answering {
        let out = try Place(vectors)
        do {
            let own: Descriptor
            do throws(Errno) { own = try Descriptor.duplicate(of: device) } catch {
                throw Refusal(error.rawValue, "descriptor \(device): \(error)")
            }
            out.put(handleOf: try DeviceVectors(try kind(number), count: Int(count), of: own))
        } catch {
            put("\(error)", message, size)
            throw error
        }
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_vectors_destroy(_ vectors: OpaquePointer?) { giveBack(vectors, DeviceVectors.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_vectors_descriptor(_ vectors: OpaquePointer?, _ index: UInt32) -> Int32 {
    guard let here = known(vectors, DeviceVectors.self) else { return -EINVAL }
    return here.events.indices.contains(Int(index)) ? here.events[Int(index)].rawValue : -ENXIO
}

/// See causeway_translation.h.
@c @implementation
public func causeway_vectors_take(
    _ vectors: OpaquePointer?, _ index: UInt32, _ milliseconds: Int32, _ count: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering {
        let here = try object(vectors, DeviceVectors.self)
        let out = try Place(count)
        out.put(try here.take(Int(index), milliseconds: milliseconds))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_vectors_trigger(_ vectors: OpaquePointer?, _ index: UInt32) -> Int32 {
    answering { try object(vectors, DeviceVectors.self).trigger(Int(index)) }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_vectors_unmask(_ vectors: OpaquePointer?) -> Int32 {
    answering { try object(vectors, DeviceVectors.self).unmask() }
}
