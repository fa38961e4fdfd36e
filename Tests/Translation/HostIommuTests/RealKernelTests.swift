// The kernel that we run on, where it has the interface. An address space of iommufd maps memory without any device; a
// VFIO container needs a group, which CAUSEWAY_VFIO_GROUP names. Where CAUSEWAY_EDU_DEVICE names one of QEMU's edu
// devices in that group (and CAUSEWAY_VFIO_CDEV its node for iommufd), the device itself reads and writes through the
// mappings. `make verify-vfio` makes all of this.

import CLinux
import DMA
import FrameMaps
import Glibc
import LinuxSystem
import SharedMemory
import TestSupport
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
            // Without help of the device's driver every mapped page counts as written, also one that devices may only
            // read.
            for mapping in mappings { #expect(try back.takeDirty(mapping) == Array(repeating: true, count: 16)) }
            try back.stopDirtyTracking()
        }
        for mapping in mappings { try back.unmap(mapping) }
        #expect(back.liveMappings == 0)
        print("VFIO on the real kernel: \(back.limits)")
    }

    @Test(.enabled(if: getenv("CAUSEWAY_EDU_DEVICE") != nil, "no edu device"))
    func deviceThroughVFIO() throws {
        let back = try VFIOContainer(group: String(cString: getenv("CAUSEWAY_VFIO_GROUP")))
        let device = try EduDevice(try back.device(String(cString: getenv("CAUSEWAY_EDU_DEVICE"))))
        try useDevice(device, back) { (run, direction, iova) throws in try back.map(run, direction, at: iova) }
    }

    @Test(.enabled(if: getenv("CAUSEWAY_VFIO_CDEV") != nil, "no edu device for iommufd"))
    func deviceThroughIommufd() throws {
        let space = try Iommufd().makeSpace()
        let device = try EduDevice(try space.attach(String(cString: getenv("CAUSEWAY_VFIO_CDEV"))))
        print("iommufd on the real kernel: \(space.limits)")
        try useDevice(device, space) { (run, direction, iova) throws in try space.map(run, direction, at: iova) }
    }

    /// The device moves bytes from one mapping to another, and cannot where it must not.
    private func useDevice(
        _ device: EduDevice, _ back: any DMABackEnd, _ map: (MemoryRun, DMADirection, Iova) throws -> BackEndMapping
    ) throws {
        let (source, target) = (try SharedRegion(anonymous: 4096), try SharedRegion(anonymous: 4096))
        let pattern = (0..<2048).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) }
        let zeros = [UInt8](repeating: 0, count: 2048)
        source.write(pattern, at: 0)
        let from = try map(try #require(MemoryRun(source)), .toDevice, Iova(rawValue: 0x100_0000))
        let to = try map(try #require(MemoryRun(target)), .fromDevice, Iova(rawValue: 0x200_0000))
        try device.fetch(0x100_0000)
        try device.store(0x200_0000)
        expectSame(target.bytes(at: 0, count: 2048), pattern)
        // A page that the device may only read stays as it is, and nothing happens to an address that nobody mapped.
        source.fill(0, count: 4096, with: 0x11)
        try device.store(0x100_0000)
        expectSame(source.bytes(at: 0, count: 2048), [UInt8](repeating: 0x11, count: 2048))
        try device.store(0x300_0000)
        // What is unmapped is out of its reach at once: it had the address in use a moment ago.
        target.fill(0, count: 4096)
        try back.unmap(to)
        try device.store(0x200_0000)
        expectSame(target.bytes(at: 0, count: 2048), zeros)
        try back.unmap(from)
        #expect(back.liveMappings == 0)
    }
}
