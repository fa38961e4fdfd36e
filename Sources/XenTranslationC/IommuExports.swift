// causeway_iommu_…

import CCausewayTranslation
import DMA
import FrameMaps
import Glibc

/// What an IOMMU's handle stands for: the domain, and what is mapped in it, so that a wrong unmap is an error and not somebody else's loss.
final class IommuObject {
    let domain: IommuDomain
    var mapped: [UInt64: Int] = [:]
    /// Faults taken from the domain and not told yet, the oldest first.
    var untold: [IOFault] = []
    init(_ domain: IommuDomain) { self.domain = domain }
}

private let mostPages: UInt64 = 1 << 24

func iommuMode(_ number: UInt32) throws(Refusal) -> IommuMode? {
    switch number {
    case CAUSEWAY_IOMMU_OFF: nil
    case CAUSEWAY_IOMMU_STRICT: .strict
    case CAUSEWAY_IOMMU_DEFERRED: .deferred
    default: throw Refusal(EINVAL)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_create(
    _ name: UnsafePointer<CChar>?, _ mode: UInt32, _ mask: UInt64, _ iommu: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    answering {
        let name = unsafe String(cString: try given(name))
        let out = unsafe try given(iommu)
        guard let mode = try iommuMode(mode), mask & (mask &+ 1) == 0, mask >= 1 << 21 - 1 else { throw Refusal(EINVAL) }
        unsafe out.pointee = handle(IommuObject(try IommuDomain(device: name, mode: mode, mask: mask)))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_destroy(_ iommu: OpaquePointer?) { unsafe giveBack(iommu, IommuObject.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_map(
    _ iommu: OpaquePointer?, _ frame: UInt64, _ page_count: UInt64, _ bits: UInt32, _ iova: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering {
        let here = unsafe try given(object(iommu, IommuObject.self))
        let out = unsafe try given(iova)
        guard page_count > 0, page_count <= mostPages, bits != 0, bits & ~3 == 0,
            FrameRange(BusFrame(rawValue: frame), count: page_count) != nil
        else { throw Refusal(EINVAL) }
        let pages = Int(page_count)
        let place = try here.domain.reserve(pages: pages)
        do {
            try here.domain.link(place, to: BusFrame(rawValue: frame), pages: pages, FramePermissions(rawValue: UInt8(bits)))
        } catch {
            here.domain.free(place, pages: pages)
            throw error
        }
        here.mapped[place.rawValue] = pages
        unsafe out.pointee = place.rawValue
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_unmap(_ iommu: OpaquePointer?, _ iova: UInt64, _ page_count: UInt64) -> Int32 {
    answering {
        let here = unsafe try given(object(iommu, IommuObject.self))
        guard let pages = here.mapped[iova] else { throw Refusal(ENOENT) }
        guard UInt64(pages) == page_count else { throw Refusal(EINVAL) }
        try here.domain.release(Iova(rawValue: iova), pages: pages)
        here.mapped[iova] = nil
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_access(
    _ iommu: OpaquePointer?, _ iova: UInt64, _ permission: UInt32, _ address: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering {
        let here = unsafe try given(object(iommu, IommuObject.self))
        let out = unsafe try given(address)
        guard permission == CAUSEWAY_READ || permission == CAUSEWAY_WRITE else { throw Refusal(EINVAL) }
        let place = Iova(rawValue: iova)
        guard let frame = here.domain.access(place, writes: permission == CAUSEWAY_WRITE) else { throw Refusal(EFAULT) }
        unsafe out.pointee = BusAddress(frame, place.offset).rawValue
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_flush(_ iommu: OpaquePointer?) -> Int32 {
    answering { unsafe try given(object(iommu, IommuObject.self)).domain.flush() }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_stale_count(_ iommu: OpaquePointer?, _ count: UnsafeMutablePointer<Int>?) -> Int32 {
    answering {
        let here = unsafe try given(object(iommu, IommuObject.self))
        let out = unsafe try given(count)
        unsafe out.pointee = here.domain.staleMappings.count
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_next_fault(_ iommu: OpaquePointer?, _ fault: UnsafeMutablePointer<causeway_fault>?) -> Int32 {
    answering {
        let here = unsafe try given(object(iommu, IommuObject.self))
        let out = unsafe try given(fault)
        if here.untold.isEmpty { here.untold = here.domain.takeFaults() }
        guard !here.untold.isEmpty else { throw Refusal(ENOENT) }
        let oldest = here.untold.removeFirst()
        let cause: UInt32
        switch oldest.cause {
        case .notMapped: cause = CAUSEWAY_FAULT_NOT_MAPPED
        case .readDenied: cause = CAUSEWAY_FAULT_READ_DENIED
        case .writeDenied: cause = CAUSEWAY_FAULT_WRITE_DENIED
        case .noMemory: cause = CAUSEWAY_FAULT_NO_MEMORY
        // Only a kernel's back end gives it, and no such one is behind this interface.
        case .reportedByDevice: cause = CAUSEWAY_FAULT_REPORTED
        }
        unsafe out.pointee = causeway_fault(iova: oldest.iova.rawValue, cause: cause, reserved: 0)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_fault_count(_ iommu: OpaquePointer?) -> UInt64 {
    unsafe object(iommu, IommuObject.self)?.domain.faults.count ?? 0
}
