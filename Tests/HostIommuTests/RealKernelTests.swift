// The kernel that we run on, where it has the interface. An address space of iommufd maps memory without any device; a VFIO container needs a
// group, which CAUSEWAY_VFIO_GROUP names.

import CLinux
import DMA
import FrameMaps
import Glibc
import LinuxSystem
import SharedMemory
import Testing

@testable import HostIommu

private func obstacle(_ back: DMABackEnds) -> String? {
    guard let why = back.obstacle() else { return nil }
    print("skipped: \(back.rawValue) on the real kernel: \(why)")
    return why
}

@Suite(.timeLimit(.minutes(1)))
struct RealKernelTests {
    @Test(.enabled(if: obstacle(.iommufd) == nil, "no /dev/iommu"))
    func iommufd() throws {
        let iommufd = try Iommufd(account: LockedMemoryAccount(limit: 64 * 4096))
        let (space, other) = (try iommufd.makeSpace(), try iommufd.makeSpace())
        #expect(!space.limits.addresses.isEmpty)
        let run = try memory(16)
        let mapping = try space.map(run, .fromDevice)
        let copy = try other.map(run, .toDevice, at: Iova(rawValue: 0x100_0000))
        #expect(copy.address.rawValue == 0x100_0000 && iommufd.account.bytes == run.byteCount)
        #expect(throws: DMABackEndError.overlaps(Iova(rawValue: 0x100_1000), byteCount: 4096)) {
            _ = try other.map(try memory(1), .toDevice, at: Iova(rawValue: 0x100_1000))
        }
        try other.allow([0x100_0000...0x1FF_FFFF])
        try space.unmap(mapping)
        try other.unmap(copy)
        #expect(iommufd.account.bytes == 0)
        #expect(throws: DMABackEndError.notMapped) { try other.unmap(copy) }
    }

    @Test(.enabled(if: obstacle(.vfioType1) == nil && getenv("CAUSEWAY_VFIO_GROUP") != nil, "no VFIO group"))
    func vfio() throws {
        let group = String(cString: getenv("CAUSEWAY_VFIO_GROUP"))
        let back = try VFIOContainer(group: group, account: LockedMemoryAccount(limit: 64 * 4096))
        #expect(back.limits.granule == 4096)
        let run = try memory(16)
        let mappings = [try back.map(run, .fromDevice), try back.map(run, .toDevice)]
        #expect(throws: DMABackEndError.self) {
            _ = try back.map(try memory(1), .toDevice, at: Iova(rawValue: mappings[0].address.rawValue))
        }
        // What the fake kernel of the other tests says is what this one says.
        #expect(!back.limits.addresses.contains { $0.contains(0xFEE0_0000) })
        #expect(back.limits.mappingsLeft.map { $0 > 1000 } ?? true)
        for (start, size) in [(0, 4096), (4096, 4096)] as [(UInt64, UInt64)] {
            var request = causeway_vfio_dma_unmap(
                argsz: 24, flags: 0, iova: mappings[0].address.rawValue + start, size: size)
            #expect(throws: Errno(EINVAL)) {
                _ = try back.kernel.call(back.container, CAUSEWAY_VFIO_IOMMU_UNMAP_DMA, &request)
            }
        }
        var overlay = vfio_iommu_type1_dma_map(
            argsz: 32, flags: 1, vaddr: run.address, iova: mappings[0].address.rawValue, size: 4096)
        #expect(throws: Errno(EEXIST)) { _ = try back.kernel.call(back.container, CAUSEWAY_VFIO_IOMMU_MAP_DMA, &overlay) }
        (overlay.iova, overlay.flags) = (0xFEE0_0000, 1)
        #expect(throws: Errno(EINVAL)) { _ = try back.kernel.call(back.container, CAUSEWAY_VFIO_IOMMU_MAP_DMA, &overlay) }
        if back.info.dirty != nil {
            try back.startDirtyTracking()
            // Without help of the device's driver every mapped page counts as written, also one that devices may only read.
            for mapping in mappings { #expect(try back.takeDirty(mapping) == Array(repeating: true, count: 16)) }
            try back.stopDirtyTracking()
        }
        for mapping in mappings { try back.unmap(mapping) }
        #expect(back.liveMappings == 0)
        print("VFIO on the real kernel: \(back.limits)")
    }
}
