// iommufd against a kernel that keeps its rules (attacks.md PM4, PM5, PM9).

import CLinux
import DMA
import FrameMaps
import Glibc
import LinuxSystem
import SharedMemory
import Testing
import TestSupport

@testable import HostIommu

@Suite(.timeLimit(.minutes(1)))
struct IommufdTests {
    private func open(_ kernel: FakeKernel, limit: UInt64? = nil) throws -> Iommufd {
        try Iommufd(account: LockedMemoryAccount(limit: limit), kernel: kernel)
    }

    @Test func mapsAndUnmaps() throws {
        let kernel = FakeKernel()
        let space = try open(kernel).makeSpace()
        #expect(space.limits.granule == 4096 && space.limits.addresses == [0...UInt64.max])
        let run = try memory(4)
        run.region.write([7, 8, 9], at: 8192)
        let mapping = try space.map(run, .toDevice)
        let address = mapping.address.rawValue
        #expect(address >= 4096 && mapping.segments.count == 1)
        #expect(kernel.access(address + 8193, writes: false, space: space.id)?.load(as: UInt8.self) == 8)
        #expect(kernel.access(address, writes: true, space: space.id) == nil)
        #expect(throws: DMABackEndError.overlaps(Iova(rawValue: address), byteCount: 16384)) {
            _ = try space.map(try memory(4), .toDevice, at: Iova(rawValue: address))
        }
        #expect(throws: DMABackEndError.misaligned(5, granule: 4096)) {
            _ = try space.map(run, .toDevice, at: Iova(rawValue: 5))
        }
        #expect(throws: DMABackEndError.outsideAddresses(Iova(rawValue: 0xFFFF_FFFF_FFFF_F000), byteCount: 8192)) {
            _ = try space.map(try memory(2), .toDevice, at: Iova(rawValue: 0xFFFF_FFFF_FFFF_F000))
        }
        let fixed = try space.map(try memory(1), .fromDevice, at: Iova(rawValue: 0x7000_0000))
        #expect(fixed.address.rawValue == 0x7000_0000)
        try space.unmap(mapping)
        #expect(throws: DMABackEndError.notMapped) { try space.unmap(mapping) }
        #expect(kernel.access(address, writes: false, space: space.id) == nil)
        try space.unmap(fixed)
        #expect(space.liveMappings == 0 && kernel.spaces[space.id]?.areas.isEmpty == true)
        #expect(space.iommufd.account.bytes == 0)
    }

    /// The kernel's own rule, which the back end must never meet.
    @Test func aMappingIsNotCut() throws {
        let kernel = FakeKernel()
        let space = try open(kernel).makeSpace()
        let mapping = try space.map(try memory(4), .toDevice)
        for (start, size) in [(0, 4096), (4096, 4096), (0, 12288), (16384, 4096)] as [(UInt64, UInt64)] {
            var request = causeway_iommu_ioas_unmap(
                size: 24, ioas_id: space.id, iova: mapping.address.rawValue + start, length: size)
            #expect(throws: Errno(ENOENT)) {
                _ = try kernel.call(space.iommufd.descriptor, CAUSEWAY_IOMMU_IOAS_UNMAP, &request)
            }
        }
        try space.unmap(mapping)
    }

    /// A page is locked and counted once, however many spaces it is in; but memory pinned for reading is not shared
    /// with who writes.
    @Test func sharedPagesCountOnce() throws {
        let kernel = FakeKernel()
        kernel.lockLimit = 12 * 4096
        let iommufd = try open(kernel, limit: 12 * 4096)
        let spaces = try (0..<3).map { _ in try iommufd.makeSpace() }
        for (index, space) in spaces.enumerated() { try space.attach("/dev/vfio/devices/vfio\(index)") }
        let run = try memory(8)
        let mappings = try spaces.map { try $0.map(run, .fromDevice) } + [try spaces[0].map(run, .toDevice)]
        #expect(iommufd.account.bytes == 8 * 4096 && kernel.locked == iommufd.account.bytes)
        #expect(
            kernel.calls.count { $0 == CAUSEWAY_IOMMU_IOAS_MAP } == 1 && kernel.calls.count { $0 == CAUSEWAY_IOMMU_IOAS_COPY } == 3)
        for (mapping, space) in zip(mappings, spaces + [spaces[0]]) {
            let seen = kernel.access(mapping.address.rawValue + 4096, writes: mapping.direction == .fromDevice, space: space.id)
            #expect(seen.map { UInt64(UInt(bitPattern: $0)) } == run.address + 4096)
        }
        // A part of the run is another set.
        let part = try #require(MemoryRun(run.region, pages: 2..<6))
        let reading = try spaces[1].map(part, .toDevice)
        #expect(iommufd.account.bytes == 12 * 4096)
        // The same part for writing: not shared with the one for reading, and there is no room for another.
        #expect(throws: DMABackEndError.lockedMemory(needed: 4 * 4096, left: 0, limit: 12 * 4096)) {
            _ = try spaces[2].map(part, .fromDevice)
        }
        try spaces[1].unmap(reading)
        // The first goes, and the copies still are.
        for (index, pair) in zip(mappings, spaces + [spaces[0]]).enumerated() {
            #expect(iommufd.account.bytes == 8 * 4096 && kernel.locked == iommufd.account.bytes)
            try pair.1.unmap(pair.0)
            #expect(index == 3 || kernel.access(mappings[3].address.rawValue, writes: false, space: spaces[0].id) != nil)
        }
        #expect(iommufd.account.bytes == 0 && kernel.locked == 0)
    }

    @Test func addressesNarrow() throws {
        let kernel = FakeKernel()
        let iommufd = try open(kernel)
        let space = try iommufd.makeSpace()
        let low = try space.map(try memory(1), .toDevice)
        try space.attach("/dev/vfio/devices/vfio0")
        #expect(space.limits.addresses == kernel.usable)
        // attacks.md PM9: the device's interrupt window.
        #expect(throws: DMABackEndError.outsideAddresses(Iova(rawValue: 0xFEE0_0000), byteCount: 4096)) {
            _ = try space.map(try memory(1), .toDevice, at: Iova(rawValue: 0xFEE0_0000))
        }
        // More ranges than fit in the first answer.
        let many = FakeKernel()
        many.usable = (0..<40 as Range<UInt64>).map { $0 << 24...($0 << 24) + 0xF_FFFF }
        let wide = try open(many).makeSpace()
        try wide.attach("/dev/vfio/devices/vfio0")
        #expect(wide.limits.addresses == many.usable)
        // A device that cannot take what is mapped, or what was promised to stay usable, is not attached.
        let other = try iommufd.makeSpace()
        _ = try other.map(try memory(1), .toDevice, at: Iova(rawValue: 0xFEE0_0000))
        #expect(throws: DMABackEndError.self) { try other.attach("/dev/vfio/devices/vfio1") }
        let third = try iommufd.makeSpace()
        try third.allow([0x10_0000...0x1F_FFFF, 0x4000_0000...0x4000_3FFF])
        #expect(throws: DMABackEndError.self) { try third.allow([0x10_0000...0x1F_FFFF, 0x1F_F000...0x2F_FFFF]) }
        // The kernel chooses among these; there are 260 pages.
        let large = try third.map(try memory(256), .toDevice)
        #expect(large.address.rawValue == 0x10_0000)
        #expect(throws: DMABackEndError.self) { _ = try third.map(try memory(5), .toDevice) }
        #expect(try third.map(try memory(4), .toDevice).address.rawValue == 0x4000_0000)
        try space.unmap(low)
    }

    @Test func accounting() throws {
        #expect(try open(FakeKernel()).accounting() == .byUser)
        #expect(
            try Iommufd(account: LockedMemoryAccount(limit: nil), accounting: .byProcess, kernel: FakeKernel()).accounting()
                == .byProcess)
        let kernel = FakeKernel()
        kernel.maySetOptions = false
        #expect(throws: DMABackEndError.kernel("IOMMU_OPTION (rlimit mode)", Errno(EPERM))) {
            _ = try Iommufd(account: LockedMemoryAccount(limit: nil), accounting: .byProcess, kernel: kernel)
        }
        // What attaching a device would pin is refused at the mapping, by name, not at the attaching.
        let small = FakeKernel()
        small.lockLimit = 3 * 4096
        let iommufd = try open(small, limit: small.lockLimit)
        let space = try iommufd.makeSpace()
        _ = try space.map(try memory(3), .toDevice)
        #expect(throws: DMABackEndError.lockedMemory(needed: 4096, left: 0, limit: 3 * 4096)) {
            _ = try space.map(try memory(1), .toDevice)
        }
        try space.attach("/dev/vfio/devices/vfio0")
    }

    /// attacks.md PM5: each failure leaves nothing behind.
    @Test func failures() throws {
        let kernel = FakeKernel()
        let iommufd = try open(kernel)
        let space = try iommufd.makeSpace()
        let regions = SharedRegion.liveCount
        kernel.failures[CAUSEWAY_IOMMU_IOAS_MAP] = [ENOMEM]
        #expect(throws: DMABackEndError.self) { _ = try space.map(try memory(2), .toDevice) }
        #expect(iommufd.account.bytes == 0 && SharedRegion.liveCount == regions)
        let run = try memory(2)
        let mapping = try space.map(run, .toDevice)
        kernel.failures[CAUSEWAY_IOMMU_IOAS_COPY] = [ENOMEM]
        #expect(throws: DMABackEndError.self) { _ = try space.map(run, .toDevice) }
        #expect(iommufd.account.bytes == 8192)
        kernel.failures[CAUSEWAY_IOMMU_IOAS_UNMAP] = [EBUSY]
        #expect(throws: DMABackEndError.self) { try space.unmap(mapping) }
        kernel.shortUnmaps = 1
        #expect(throws: DMABackEndError.unmappedOther(byteCount: 8192, ended: 0)) { try space.unmap(mapping) }
        #expect(iommufd.account.bytes == 8192 && space.liveMappings == 1)
        try space.unmap(mapping)
        #expect(iommufd.account.bytes == 0)
        let other = try iommufd.makeSpace()
        #expect(throws: DMABackEndError.notMapped) { try other.unmap(mapping) }
        kernel.missing = ["/dev/iommu", "/dev/vfio/devices/vfio9"]
        #expect(throws: DMABackEndError.unavailable(name: "iommufd", what: "/dev/iommu", why: "No such file or directory")) {
            _ = try open(kernel)
        }
        #expect(throws: DMABackEndError.self) { try space.attach("/dev/vfio/devices/vfio9") }
    }

    @Test func everythingGoesWithTheSpace() throws {
        let kernel = FakeKernel()
        let account = LockedMemoryAccount(limit: nil)
        let (regions, descriptors) = (SharedRegion.liveCount, Descriptor.openCount)
        do {
            let space = try Iommufd(account: account, kernel: kernel).makeSpace()
            try space.attach("/dev/vfio/devices/vfio0")
            for _ in 0..<5 { _ = try space.map(try memory(3), .fromDevice) }
            #expect(account.bytes == 15 * 4096)
        }
        #expect(kernel.spaces.isEmpty && account.bytes == 0)
        #expect(SharedRegion.liveCount == regions && Descriptor.openCount == descriptors)
    }

    /// Page requests are faults with an address and a cause; each group is answered once, and a storm is a counter.
    @Test func faults() throws {
        let kernel = FakeKernel()
        let iommufd = try open(kernel)
        let space = try iommufd.makeSpace()
        #expect(space.faultDescriptor == nil && space.takeFaults() == DMAFaults())
        let mapping = try space.map(try memory(2), .toDevice)
        _ = try iommufd.reportFaults()
        func request(_ address: UInt64, _ permission: UInt32, _ cookie: UInt32, last: Bool) {
            var record = causeway_iommu_hwpt_pgfault()
            (record.flags, record.dev_id, record.perm, record.addr, record.cookie) = (last ? 2 : 0, 5, permission, address, cookie)
            #expect(write(kernel.faultPeer, &record, 40) == 40)
        }
        request(0x9000, 1, 0, last: false)
        request(mapping.address.rawValue + 4096, 2, 77, last: true)
        request(mapping.address.rawValue, 1, 78, last: true)
        #expect(try waitReadable(try #require(space.faultDescriptor).rawValue, milliseconds: 0))
        let seen = space.takeFaults()
        #expect(seen.count == 3)
        #expect(
            seen.recent.map(\.description) == [
                "device 5: iova 0x9000: not mapped",
                "device 5: iova 0x\(String(mapping.address.rawValue + 4096, radix: 16)): write denied",
                "device 5: iova 0x\(String(mapping.address.rawValue, radix: 16)): read denied",
            ])
        for cookie in [77, 78] as [UInt32] {
            var answer = causeway_iommu_hwpt_page_response()
            #expect(read(kernel.faultPeer, &answer, 8) == 8)
            #expect(answer.cookie == cookie && answer.code == UInt32(CAUSEWAY_IOMMUFD_PAGE_RESP_INVALID))
        }
        for _ in 0..<100 { request(0x9000, 1, 0, last: false) }
        let storm = space.takeFaults()
        #expect(storm.count == 100 && storm.recent.count == 64 && space.takeFaults().count == 0)
        let old = FakeKernel()
        old.hasFaultQueue = false
        #expect(throws: DMABackEndError.unsupported("queue of IO page faults")) { _ = try open(old).reportFaults() }
    }

    /// attacks.md PM4: the same address in another space is other memory, and nothing of the first is behind it.
    @Test func spacesAreApart() throws {
        let kernel = FakeKernel()
        let iommufd = try open(kernel)
        let (first, second) = (try iommufd.makeSpace(), try iommufd.makeSpace())
        let (mine, yours) = (try memory(1), try memory(1))
        let there = Iova(rawValue: 0x10_0000)
        let mapping = try first.map(mine, .toDevice, at: there)
        #expect(kernel.access(there.rawValue, writes: false, space: second.id) == nil)
        let other = try second.map(yours, .toDevice, at: there)
        #expect(
            kernel.access(there.rawValue, writes: false, space: second.id).map { UInt64(UInt(bitPattern: $0)) } == yours.address)
        // A mapping of the one is nothing to the other, though the addresses are the same.
        #expect(throws: DMABackEndError.notMapped) { try second.unmap(mapping) }
        try first.unmap(mapping)
        #expect(kernel.access(there.rawValue, writes: false, space: second.id) != nil)
        try second.unmap(other)
    }

    /// Random mappings over three spaces and a few regions, against a list of what is where and a set of what is
    /// locked.
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func againstAList(_ seed: UInt64) throws {
        var random = SplitMix(seed)
        let kernel = FakeKernel()
        let limit: UInt64 = 40 * 4096
        let iommufd = try open(kernel, limit: limit)
        let spaces = try (0..<3).map { _ in try iommufd.makeSpace() }
        for (index, space) in spaces.enumerated() { try space.attach("/dev/vfio/devices/vfio\(index)") }
        let regions = try (0..<3).map { _ in try SharedRegion(anonymous: 8 * 4096) }
        struct Live { var space: Int, mapping: BackEndMapping, run: MemoryRun, set: Int }
        var live: [Live] = []
        // The model of what is pinned: sets by number, with what they are of and whether devices write them.
        var sets: [Int: (region: Int, pages: Range<Int>, writes: Bool)] = [:]
        var nextSet = 0
        for _ in 0..<500 {
            if Int.random(in: 0..<5, using: &random) < 2, !live.isEmpty {
                let gone = live.remove(at: Int.random(in: live.indices, using: &random))
                try spaces[gone.space].unmap(gone.mapping)
                if !live.contains(where: { $0.set == gone.set }) { sets[gone.set] = nil }
            } else {
                let region = Int.random(in: 0..<3, using: &random), first = [0, 0, 4].randomElement(using: &random)!
                let pages = first..<first + [1, 4, 4].randomElement(using: &random)!
                let writes = Bool.random(using: &random), space = Int.random(in: 0..<3, using: &random)
                let run = try #require(MemoryRun(regions[region], pages: pages))
                let candidates = sets.filter {
                    $0.value.region == region && $0.value.pages == pages && ($0.value.writes || !writes)
                }
                let locked = sets.values.reduce(0) { $0 + UInt64($1.pages.count) * 4096 }
                let may = !candidates.isEmpty || locked + run.byteCount <= limit
                let mapping = try? spaces[space].map(run, writes ? .fromDevice : .toDevice)
                #expect((mapping != nil) == may)
                guard let mapping else { continue }
                // Which of the sets it shares is the kernel's to say.
                let address = mapping.address.rawValue
                let pagesSeen = try #require(kernel.spaces[spaces[space].id]?.areas.first { $0.iova == address }).pages
                let shared = live.first { other in
                    kernel.spaces[spaces[other.space].id]!.areas.contains {
                        $0.iova == other.mapping.address.rawValue && $0.pages === pagesSeen
                    }
                }
                #expect((shared != nil) == !candidates.isEmpty)
                let set = shared?.set ?? nextSet
                if shared == nil {
                    sets[set] = (region, pages, writes)
                    nextSet += 1
                }
                live.append(Live(space: space, mapping: mapping, run: run, set: set))
            }
            #expect(iommufd.account.bytes == sets.values.reduce(0) { $0 + UInt64($1.pages.count) * 4096 })
            #expect(kernel.locked == iommufd.account.bytes)
            for each in live {
                let last = each.mapping.address.rawValue + each.mapping.byteCount - 1
                let seen = kernel.access(last, writes: each.mapping.direction == .fromDevice, space: spaces[each.space].id)
                #expect(seen.map { UInt64(UInt(bitPattern: $0)) } == each.run.address + each.run.byteCount - 1)
            }
        }
    }
}
