// VFIO type1 against a kernel that keeps its rules (attacks.md PM5, PM9, PM14).

import CLinux
import DMA
import FrameMaps
import Glibc
import LinuxSystem
import SharedMemory
import Testing
import TestSupport

@testable import HostIommu

func memory(_ pages: Int) throws -> MemoryRun { try #require(MemoryRun(SharedRegion(anonymous: pages * 4096))) }

@Suite(.timeLimit(.minutes(1)))
struct VFIOTests {
    private func container(_ kernel: FakeKernel, limit: UInt64? = nil) throws -> VFIOContainer {
        try VFIOContainer(group: "/dev/vfio/12", account: LockedMemoryAccount(limit: limit), kernel: kernel)
    }

    @Test func limitsAsTheKernelTellsThem() throws {
        let kernel = FakeKernel()
        kernel.mappingLimit = 100
        let limits = try container(kernel, limit: 1 << 20).limits
        #expect(limits.pageSizes == kernel.pageSizes && limits.granule == 4096)
        #expect(limits.addresses == kernel.usable)
        #expect(limits.mappingsLeft == 100 && limits.lockableBytes == 1 << 20)
        // Many ranges: the second call has room for them.
        let many = FakeKernel()
        many.usable = (0..<200 as Range<UInt64>).map { $0 << 24...($0 << 24) + 0xF_FFFF }
        many.tracksDirty = false
        #expect(try container(many).limits.addresses == many.usable)
    }

    @Test func mapsAndUnmaps() throws {
        let kernel = FakeKernel()
        let account = LockedMemoryAccount(limit: 1 << 20)
        let back = try VFIOContainer(group: "/dev/vfio/12", account: account, kernel: kernel)
        let run = try memory(4)
        run.region.write([1, 2, 3], at: 4096)
        let mapping = try back.map(run, .toDevice)
        #expect(mapping.segments.count == 1 && mapping.byteCount == 16384 && account.bytes == 16384)
        let address = mapping.address.rawValue
        #expect(kernel.access(address + 4097, writes: false)?.load(as: UInt8.self) == 2)
        #expect(kernel.access(address, writes: true) == nil)
        #expect(kernel.access(address + 16384, writes: false) == nil)
        let other = try back.map(try memory(1), .fromDevice)
        #expect(kernel.access(other.address.rawValue, writes: false) == nil)
        #expect(kernel.access(other.address.rawValue, writes: true) != nil)
        try back.sync(mapping, offset: 0, byteCount: 16384, for: .device)
        #expect(throws: DMABackEndError.outsideMapping(offset: 1, byteCount: 16384, mapped: 16384)) {
            try back.sync(mapping, offset: 1, byteCount: 16384, for: .processor)
        }
        try back.unmap(mapping)
        #expect(kernel.access(address, writes: false) == nil && account.bytes == 4096)
        #expect(throws: DMABackEndError.notMapped) { try back.unmap(mapping) }
        try back.unmap(other)
        #expect(kernel.container.isEmpty && account.bytes == 0 && back.liveMappings == 0)
    }

    /// The kernel's own rule, which the back end must never meet: a mapping is not cut.
    @Test func aMappingIsNotCut() throws {
        let kernel = FakeKernel()
        let back = try container(kernel)
        let mapping = try back.map(try memory(4), .toDevice)
        for (start, size) in [(0, 4096), (4096, 4096), (0, 12288), (12288, 8192)] as [(UInt64, UInt64)] {
            var request = causeway_vfio_dma_unmap(
                argsz: 24, flags: 0, iova: mapping.address.rawValue + start, size: size)
            #expect(throws: Errno(EINVAL)) {
                _ = try kernel.call(back.container, CAUSEWAY_VFIO_IOMMU_UNMAP_DMA, &request)
            }
        }
        try back.unmap(mapping)
    }

    @Test func addressesOfTheCallersChoice() throws {
        let kernel = FakeKernel()
        let back = try container(kernel)
        let run = try memory(2)
        let mapping = try back.map(run, .toDevice, at: Iova(rawValue: 0x1000_0000))
        #expect(mapping.address.rawValue == 0x1000_0000)
        // attacks.md PM9: what is mapped cannot be overlaid, whole or in part; the interrupt window and what lies
        // beyond is nobody's.
        for start in [0x1000_0000, 0x0FFF_F000, 0x1000_1000] as [UInt64] {
            #expect(throws: DMABackEndError.overlaps(Iova(rawValue: start), byteCount: 8192)) {
                _ = try back.map(run, .fromDevice, at: Iova(rawValue: start))
            }
        }
        for start in [0xFEDF_F000, 0xFEE0_0000, 0xFEEF_F000, 1 << 39, (1 << 39) - 4096, UInt64.max - 4095, 0] as [UInt64]
        where start != 0 {
            #expect(throws: DMABackEndError.outsideAddresses(Iova(rawValue: start), byteCount: 8192)) {
                _ = try back.map(run, .fromDevice, at: Iova(rawValue: start))
            }
        }
        #expect(throws: DMABackEndError.misaligned(0x800, granule: 4096)) {
            _ = try back.map(run, .toDevice, at: Iova(rawValue: 0x800))
        }
        #expect(kernel.container.count == 1)
        // And when the kernel knows better than the driver: it alone maps things there.
        kernel.failures[CAUSEWAY_VFIO_IOMMU_MAP_DMA] = [EEXIST]
        #expect(throws: DMABackEndError.overlaps(Iova(rawValue: 0x2000_0000), byteCount: 8192)) {
            _ = try back.map(run, .toDevice, at: Iova(rawValue: 0x2000_0000))
        }
        // The addresses are free again.
        _ = try back.map(run, .toDevice, at: Iova(rawValue: 0x2000_0000))
    }

    @Test func largerPagesOfTheIommu() throws {
        let kernel = FakeKernel()
        kernel.pageSizes = 1 << 16
        let back = try container(kernel)
        #expect(throws: DMABackEndError.misaligned(4096, granule: 65536)) {
            // One page of 4 KiB is no multiple of the IOMMU's; wherever it starts.
            let run = try #require(MemoryRun(SharedRegion(anonymous: 1 << 17)))
            let start = Int((65536 - run.address % 65536) % 65536 / 4096)
            _ = try back.map(try #require(MemoryRun(run.region, pages: start..<start + 1)), .toDevice)
        }
        // Addresses keep what the memory's have below a large page, so that large pages can be used.
        let large = try container(FakeKernel())
        let run = try memory(1024)
        let mapping = try large.map(run, .toDevice)
        #expect(mapping.address.rawValue & 0x1F_FFFF == run.address & 0x1F_FFFF)
    }

    @Test func entriesRunOut() throws {
        let kernel = FakeKernel()
        kernel.mappingLimit = 3
        let account = LockedMemoryAccount(limit: nil)
        let back = try VFIOContainer(group: "/dev/vfio/12", account: account, kernel: kernel)
        let run = try memory(1)
        var all: [BackEndMapping] = []
        for _ in 0..<3 { all.append(try back.map(run, .toDevice)) }
        #expect(back.limits.mappingsLeft == 0)
        #expect(throws: DMABackEndError.tooManyMappings(3)) { _ = try back.map(run, .toDevice) }
        try back.unmap(all[1])
        // The kernel's own count goes first if another user of the container took the last one.
        kernel.failures[CAUSEWAY_VFIO_IOMMU_MAP_DMA] = [ENOSPC]
        #expect(throws: DMABackEndError.tooManyMappings(2)) { _ = try back.map(run, .toDevice) }
        #expect(account.bytes == 8192)
        _ = try back.map(run, .toDevice)
    }

    /// Locked memory: counted for each mapping, refused with figures before the kernel is asked, and taken back.
    @Test func lockedMemory() throws {
        let kernel = FakeKernel()
        kernel.lockLimit = 10 * 4096
        let account = LockedMemoryAccount(limit: kernel.lockLimit)
        let back = try VFIOContainer(group: "/dev/vfio/12", account: account, kernel: kernel)
        let run = try memory(4)
        let mappings = [try back.map(run, .toDevice), try back.map(run, .toDevice)]
        #expect(account.bytes == 8 * 4096 && kernel.locked == account.bytes)
        let before = kernel.calls.count
        #expect(throws: DMABackEndError.lockedMemory(needed: 4 * 4096, left: 2 * 4096, limit: 10 * 4096)) {
            _ = try back.map(run, .toDevice)
        }
        #expect(kernel.calls.count == before)
        #expect(
            "\(DMABackEndError.lockedMemory(needed: 16384, left: 8192, limit: 40960))"
                == "16384 bytes would have to be locked in memory, and 8192 of 40960 bytes are left (ulimit -l)")
        // Something else of this process has locked memory meanwhile: the kernel refuses, and everything is as before.
        kernel.lockLimit = 0
        #expect(throws: DMABackEndError.self) { _ = try back.map(try memory(1), .toDevice) }
        #expect(account.bytes == 8 * 4096)
        for mapping in mappings { try back.unmap(mapping) }
        #expect(account.bytes == 0 && account.bytesLeft == 10 * 4096)
    }

    /// attacks.md PM5: an unmapping that fails, or that does nothing, gives nothing back: the device may still reach
    /// the memory.
    @Test func unmapFails() throws {
        let kernel = FakeKernel()
        let account = LockedMemoryAccount(limit: nil)
        let back = try VFIOContainer(group: "/dev/vfio/12", account: account, kernel: kernel)
        let regions = SharedRegion.liveCount
        let mapping = try back.map(try memory(2), .toDevice)
        kernel.failures[CAUSEWAY_VFIO_IOMMU_UNMAP_DMA] = [EINVAL]
        #expect(throws: DMABackEndError.self) { try back.unmap(mapping) }
        kernel.shortUnmaps = 1
        #expect(throws: DMABackEndError.unmappedOther(byteCount: 8192, ended: 0)) { try back.unmap(mapping) }
        #expect(back.liveMappings == 1 && account.bytes == 8192 && SharedRegion.liveCount == regions + 1)
        #expect(throws: DMABackEndError.overlaps(Iova(rawValue: mapping.address.rawValue), byteCount: 4096)) {
            _ = try back.map(try memory(1), .toDevice, at: Iova(rawValue: mapping.address.rawValue))
        }
        try back.unmap(mapping)
        #expect(account.bytes == 0 && SharedRegion.liveCount == regions)
    }

    @Test func everythingGoesWithTheContainer() throws {
        let kernel = FakeKernel()
        let account = LockedMemoryAccount(limit: nil)
        let (regions, descriptors) = (SharedRegion.liveCount, Descriptor.openCount)
        do {
            let back = try VFIOContainer(group: "/dev/vfio/12", account: account, kernel: kernel)
            for _ in 0..<5 { _ = try back.map(try memory(3), .fromDevice) }
            #expect(kernel.container.count == 5 && Descriptor.openCount == descriptors + 2)
        }
        #expect(kernel.container.isEmpty && account.bytes == 0)
        #expect(SharedRegion.liveCount == regions && Descriptor.openCount == descriptors)
    }

    /// Each step of setting up fails in turn: an error that names it, and nothing left open.
    @Test func setUpFails() throws {
        let steps = [
            CAUSEWAY_VFIO_GET_API_VERSION, CAUSEWAY_VFIO_CHECK_EXTENSION, CAUSEWAY_VFIO_GROUP_GET_STATUS,
            CAUSEWAY_VFIO_GROUP_SET_CONTAINER, CAUSEWAY_VFIO_SET_IOMMU, CAUSEWAY_VFIO_IOMMU_GET_INFO,
        ]
        let descriptors = Descriptor.openCount
        for step in steps {
            let kernel = FakeKernel()
            kernel.failures[step] = [ENOTTY]
            #expect(throws: DMABackEndError.self) { _ = try container(kernel) }
        }
        for path in ["/dev/vfio/vfio", "/dev/vfio/12"] {
            let kernel = FakeKernel()
            kernel.missing = [path]
            #expect(throws: DMABackEndError.unavailable(name: "vfio-type1", what: path, why: "No such file or directory")) {
                _ = try container(kernel)
            }
        }
        let kernel = FakeKernel()
        kernel.isViable = false
        #expect(throws: DMABackEndError.self) { _ = try container(kernel) }
        #expect(Descriptor.openCount == descriptors)
    }

    @Test func dirtyPages() throws {
        let kernel = FakeKernel()
        let back = try container(kernel)
        let mapping = try back.map(try memory(130), .fromDevice)
        #expect(throws: DMABackEndError.self) { _ = try back.takeDirty(mapping) }
        try back.startDirtyTracking()
        for page in [0, 63, 64, 129] as [UInt64] { _ = kernel.access(mapping.address.rawValue + page << 12, writes: true) }
        for round in 0..<2 {
            let dirty = try back.takeDirty(mapping)
            #expect(dirty.count == 130)
            #expect(dirty.indices.filter { dirty[$0] } == (round == 0 ? [0, 63, 64, 129] : []))
        }
        try back.stopDirtyTracking()
        let without = FakeKernel()
        without.tracksDirty = false
        #expect(throws: DMABackEndError.unsupported("dirty page tracking")) { try container(without).startDirtyTracking() }
    }

    /// A device's errors are faults, counted, and the descriptor says when.
    @Test func errorsAreFaults() throws {
        let kernel = FakeKernel()
        let back = try container(kernel)
        #expect(back.faultDescriptor == nil && back.takeFaults() == DMAFaults())
        let device = try back.device("0000:06:0d.0")
        try back.reportErrors(of: device, name: "nvme0")
        let event = try #require(kernel.errorEvent)
        #expect(try !waitReadable(event, milliseconds: 0))
        for _ in 0..<3 {
            var one: UInt64 = 1
            #expect(write(event, &one, 8) == 8)
        }
        #expect(try waitReadable(try #require(back.faultDescriptor).rawValue, milliseconds: 0))
        let faults = back.takeFaults()
        #expect(faults.count == 3 && faults.recent.map(\.description) == ["nvme0: device error"])
        #expect(back.takeFaults().count == 0)
    }

    /// Random mappings and unmappings, at addresses of the driver's choice and of ours, against a list of what is
    /// mapped.
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func againstAList(_ seed: UInt64) throws {
        var random = SplitMix(seed)
        let kernel = FakeKernel()
        kernel.usable = [0x2000...0x1_FFFF, 0x3_0000...0x3_7FFF]
        kernel.mappingLimit = 9
        let limit: UInt64 = 30 * 4096
        kernel.lockLimit = limit
        let account = LockedMemoryAccount(limit: limit)
        let back = try VFIOContainer(group: "/dev/vfio/12", account: account, kernel: kernel)
        var live: [(mapping: BackEndMapping, run: MemoryRun)] = []
        func taken(_ start: UInt64, _ count: UInt64) -> Bool {
            live.contains {
                $0.mapping.address.rawValue < start + count && start < $0.mapping.address.rawValue + $0.mapping.byteCount
            }
        }
        for _ in 0..<400 {
            if Int.random(in: 0..<5, using: &random) < 2, !live.isEmpty {
                let gone = live.remove(at: Int.random(in: live.indices, using: &random))
                try back.unmap(gone.mapping)
            } else {
                let run = try memory(Int.random(in: 1...9, using: &random))
                let wanted = Bool.random(using: &random) ? Iova(rawValue: UInt64.random(in: 0..<64, using: &random) << 12) : nil
                let locked = live.reduce(0) { $0 + $1.mapping.byteCount }
                let fits: Bool
                if let wanted {
                    fits =
                        kernel.usable.contains { $0.contains(wanted.rawValue) && $0.contains(wanted.rawValue + run.byteCount - 1) }
                        && !taken(wanted.rawValue, run.byteCount)
                } else {
                    // Somewhere there is room.
                    fits = (0..<64 as Range<UInt64>).contains { page in
                        kernel.usable.contains { $0.contains(page << 12) && $0.contains(page << 12 + run.byteCount - 1) }
                            && !taken(page << 12, run.byteCount)
                    }
                }
                let may = fits && live.count < 9 && locked + run.byteCount <= limit
                let mapping = try? back.map(run, .fromDevice, at: wanted)
                #expect((mapping != nil) == may)
                if let mapping {
                    #expect(wanted == nil || mapping.address.rawValue == wanted!.rawValue)
                    #expect(!taken(mapping.address.rawValue, mapping.byteCount))
                    live.append((mapping, run))
                }
            }
            #expect(account.bytes == live.reduce(0) { $0 + $1.mapping.byteCount } && account.bytes == kernel.locked)
            #expect(kernel.container.count == live.count)
            for each in live {
                let last = each.mapping.address.rawValue + each.mapping.byteCount - 1
                let seen = kernel.access(last, writes: true).map { UInt64(UInt(bitPattern: $0)) }
                #expect(seen == each.run.address + each.run.byteCount - 1)
            }
        }
    }
}
