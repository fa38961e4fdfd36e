// Which pages devices have written. Without help of the device's driver type1 takes every mapped page for written (seen
// on Linux 6.12: also those that devices may only read): never too few.

import CLinux
import DMA
import LinuxSystem

extension VFIOContainer {
    /// Starts to record writes; `unsupported` if this kernel does not.
    public func startDirtyTracking() throws(DMABackEndError) {
        guard info.dirty != nil else { throw .unsupported("dirty page tracking") }
        try dirtyPages(UInt32(VFIO_IOMMU_DIRTY_PAGES_FLAG_START))
    }

    /// Ends it.
    public func stopDirtyTracking() throws(DMABackEndError) {
        try dirtyPages(UInt32(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP))
    }

    private func dirtyPages(_ flag: UInt32) throws(DMABackEndError) {
        var request = causeway_vfio_dirty_switch()
        request.argsz = UInt32(MemoryLayout<causeway_vfio_dirty_switch>.size)
        request.flags = flag
        do throws(Errno) { _ = try kernel.call(container, Int(CAUSEWAY_VFIO_IOMMU_DIRTY_PAGES), &request) } catch {
            throw .kernel("VFIO_IOMMU_DIRTY_PAGES", error)
        }
    }

    /// For each of the mapping's pages (of `limits.granule` bytes) whether a device may have written it since tracking
    /// began or this was last asked.
    public func takeDirty(_ mapping: BackEndMapping) throws(DMABackEndError) -> [Bool] {
        guard let dirty = info.dirty else { throw .unsupported("dirty page tracking") }
        _ = try mappings.find(mapping)
        let pages = Int(mapping.byteCount / dirty.pageSize)
        var bits = [UInt64](repeating: 0, count: (pages + 63) / 64)
        guard UInt64(bits.count) * 8 <= dirty.bitmapBytes else {
            throw .unsupported("bitmap of \(bits.count * 8) bytes; \(dirty.bitmapBytes) at most")
        }
        var request = causeway_vfio_dirty_get()
        request.argsz = UInt32(MemoryLayout<causeway_vfio_dirty_get>.size)
        request.flags = UInt32(VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP)
        request.iova = mapping.address.rawValue
        request.size = mapping.byteCount
        request.page_size = dirty.pageSize
        request.bitmap_size = UInt64(bits.count * 8)
        do throws(Errno) {
            _ = try kernel.call(container, Int(CAUSEWAY_VFIO_IOMMU_DIRTY_PAGES), &request, list: &bits, at: \.bitmap)
        } catch { throw .kernel("VFIO_IOMMU_DIRTY_PAGES of \(mapping)", error) }
        return (0..<pages).map { bits[$0 / 64] >> UInt64($0 % 64) & 1 == 1 }
    }
}
