// causeway_iommu_…: addresses of one's own choice, of up to 57 bits, and who is asked for what is not mapped.

import CCausewayTranslation
import DMA
import FrameMaps
import Glibc

/// A C function and what it is called with.
///
/// SAFETY: the caller keeps both good until it names another, as the header says, and so the IOMMU's handle, which is
/// handed back to it.
@safe
private struct CMiss {
    let function: causeway_miss
    let context: UnsafeMutableRawPointer?
    let iommu: OpaquePointer?

    @safe
    init?(_ function: causeway_miss?, _ context: UnsafeMutableRawPointer?, _ iommu: OpaquePointer?) {
        guard let function = unsafe function else { return nil }
        unsafe self.function = function
        unsafe self.context = context
        unsafe self.iommu = iommu
    }

    func ask(_ iova: Iova, _ writes: Bool) {
        // What it says is what is found afterwards: the page is there, or the access is a fault.
        _ = unsafe function(context, iommu, iova.rawValue, writes ? CAUSEWAY_WRITE : CAUSEWAY_READ)
    }
}

private let mostPages: UInt64 = 1 << 24

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_create_wide(
    _ name: UnsafePointer<CChar>?, _ mode: UInt32, _ address_bits: UInt32, _ iommu: UnsafeMutablePointer<OpaquePointer?>?
) -> Int32 {
    answering {
        let name = try text(name)
        let out = try Place(iommu)
        guard let mode = try iommuMode(mode), (21...57).contains(address_bits) else { throw ErrorNumber(EINVAL) }
        let domain = try IommuDomain(
            device: name, mode: mode, mask: (1 << UInt64(address_bits)) - 1, addressBits: Int(address_bits))
        out.put(handleOf: IommuObject(domain))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_dma_iommu(_ dma: OpaquePointer?, _ iommu: UnsafeMutablePointer<OpaquePointer?>?) -> Int32 {
    answering {
        let here = try object(dma, DMAObject.self)
        let out = try Place(iommu)
        guard let domain = here.device.iommu else { throw ErrorNumber(ENODEV) }
        out.put(handleOf: IommuObject(domain))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_map_at(
    _ iommu: OpaquePointer?, _ iova: UInt64, _ frame: UInt64, _ page_count: UInt64, _ bits: UInt32
) -> Int32 {
    answering {
        let here = try object(iommu, IommuObject.self)
        guard page_count > 0, page_count <= mostPages, bits != 0, bits & ~3 == 0 else { throw ErrorNumber(EINVAL) }
        try here.domain.link(
            Iova(rawValue: iova), to: BusFrame(rawValue: frame), pages: Int(page_count), FramePermissions(rawValue: UInt8(bits)))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_unmap_at(_ iommu: OpaquePointer?, _ iova: UInt64, _ page_count: UInt64) -> Int32 {
    answering {
        let here = try object(iommu, IommuObject.self)
        guard page_count > 0, page_count <= mostPages else { throw ErrorNumber(EINVAL) }
        // A reservation's pages are its own to end: it would be given out again with nothing there.
        let count = page_count << frameShift
        let isReserved = here.mapped.contains { start, pages in
            start <= iova ? iova - start < UInt64(pages) << frameShift : start - iova < count
        }
        if isReserved { throw ErrorNumber(EBUSY) }
        try here.domain.unlink(Iova(rawValue: iova), pages: Int(page_count))
        try here.domain.invalidate(Iova(rawValue: iova), pages: Int(page_count))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_get_leaves(_ iommu: OpaquePointer?, _ leaves: UnsafeMutablePointer<causeway_leaves>?) -> Int32 {
    answering {
        let here = try object(iommu, IommuObject.self)
        let out = try Place(leaves)
        let counted = here.domain.leaves
        out.put(
            causeway_leaves(
                small: UInt64(counted.small), large: UInt64(counted.large), huge: UInt64(counted.huge),
                table_bytes: UInt64(here.domain.tableByteCount)))
    }
}

/// See causeway_translation.h.
@c @implementation
public func causeway_iommu_on_miss(_ iommu: OpaquePointer?, _ handler: causeway_miss?, _ context: UnsafeMutableRawPointer?) -> Int32
{
    answering {
        let here = try object(iommu, IommuObject.self)
        guard let asked = CMiss(handler, context, iommu) else {
            here.domain.missHandler = nil
            return
        }
        here.answersMisses = true
        here.domain.missHandler = { iova, writes in asked.ask(iova, writes) }
    }
}
