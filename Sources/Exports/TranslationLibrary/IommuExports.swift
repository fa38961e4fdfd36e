// causeway_iommu_…

import CCausewayTranslation
import DMA
import FrameMaps
import Glibc

/// What an IOMMU's handle stands for: the domain, and what is mapped in it, so that a wrong unmap is an error and not
/// somebody else's loss.
final class IommuObject {
    let domain: IommuDomain
    var mapped: [UInt64: Int] = [:]
    var faults = UntoldFaults()
    /// Whether this handle's function is asked for misses: not longer than the handle is there.
    var answersMisses = false
    init(_ domain: IommuDomain) { self.domain = domain }
    deinit { if answersMisses { domain.missHandler = nil } }
}

/// Faults taken from an IOMMU and not told yet, the oldest first.
struct UntoldFaults {
    private var untold: [IOFault] = []

    /// The next one, as C has it. Throws ENOENT if there is none.
    mutating func next(of domain: IommuDomain?) throws(ErrorNumber) -> causeway_fault {
        if untold.isEmpty { untold = domain?.takeFaults() ?? [] }
        guard !untold.isEmpty else { throw ErrorNumber(ENOENT) }
        let oldest = untold.removeFirst()
        let cause: UInt32
        switch oldest.cause {
        case .notMapped: cause = CAUSEWAY_FAULT_NOT_MAPPED
        case .readDenied: cause = CAUSEWAY_FAULT_READ_DENIED
        case .writeDenied: cause = CAUSEWAY_FAULT_WRITE_DENIED
        case .noMemory: cause = CAUSEWAY_FAULT_NO_MEMORY
        // Only a kernel's back end gives it, and no such one is behind this interface.
        case .reportedByDevice: cause = CAUSEWAY_FAULT_REPORTED
        }
        return causeway_fault(iova: oldest.iova.rawValue, cause: cause, reserved: 0)
    }
}

private let mostPages: UInt64 = 1 << 24

func iommuMode(_ number: UInt32) throws(ErrorNumber) -> IommuMode? {
    switch number {
    case CAUSEWAY_IOMMU_OFF: nil
    case CAUSEWAY_IOMMU_STRICT: .strict
    case CAUSEWAY_IOMMU_DEFERRED: .deferred
    default: throw ErrorNumber(EINVAL)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_create(
    _ name: UnsafePointer<CChar>?, _ mode: UInt32, _ mask: UInt64, _ iommu: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    answering {
        let name = try text(name)
        let out = try Place(iommu)
        guard let mode = try iommuMode(mode), mask & (mask &+ 1) == 0, mask >= 1 << 21 - 1 else { throw ErrorNumber(EINVAL) }
        out.put(handleOf: IommuObject(try IommuDomain(device: name, mode: mode, mask: mask)))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_destroy(_ iommu: OpaquePointer?) { giveBack(iommu, IommuObject.self) }

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_map(
    _ iommu: OpaquePointer?, _ frame: UInt64, _ page_count: UInt64, _ bits: UInt32, _ iova: UnsafeMutablePointer<UInt64>?
) -> Int32 {
    answering {
        let here = try object(iommu, IommuObject.self)
        let out = try Place(iova)
        guard page_count > 0, page_count <= mostPages, bits != 0, bits & ~3 == 0,
            FrameRange(BusFrame(rawValue: frame), count: page_count) != nil
        else { throw ErrorNumber(EINVAL) }
        let pages = Int(page_count)
        let place = try here.domain.map(BusFrame(rawValue: frame), pages: pages, FramePermissions(rawValue: UInt8(bits)))
        here.mapped[place.rawValue] = pages
        out.put(place.rawValue)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_unmap(_ iommu: OpaquePointer?, _ iova: UInt64, _ page_count: UInt64) -> Int32 {
    answering {
        let here = try object(iommu, IommuObject.self)
        guard let pages = here.mapped[iova] else { throw ErrorNumber(ENOENT) }
        guard UInt64(pages) == page_count else { throw ErrorNumber(EINVAL) }
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
        let here = try object(iommu, IommuObject.self)
        let out = try Place(address)
        guard permission == CAUSEWAY_READ || permission == CAUSEWAY_WRITE else { throw ErrorNumber(EINVAL) }
        let place = Iova(rawValue: iova)
        guard let frame = here.domain.access(place, writes: permission == CAUSEWAY_WRITE) else { throw ErrorNumber(EFAULT) }
        out.put(BusAddress(frame, place.offset).rawValue)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_flush(_ iommu: OpaquePointer?) -> Int32 {
    answering { try object(iommu, IommuObject.self).domain.flush() }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_stale_count(_ iommu: OpaquePointer?, _ count: UnsafeMutablePointer<Int>?) -> Int32 {
    answering {
        let here = try object(iommu, IommuObject.self)
        let out = try Place(count)
        out.put(here.domain.staleMappings.count)
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_next_fault(_ iommu: OpaquePointer?, _ fault: UnsafeMutablePointer<causeway_fault>?) -> Int32 {
    answering {
        let here = try object(iommu, IommuObject.self)
        let out = try Place(fault)
        out.put(try here.faults.next(of: here.domain))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_fault_count(_ iommu: OpaquePointer?) -> UInt64 {
    known(iommu, IommuObject.self)?.domain.faults.count ?? 0
}
