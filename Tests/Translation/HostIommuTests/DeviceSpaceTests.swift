// One handle for every kind of space, against the tests' own kernel: what the C interface says of it is run by
// TranslationLibraryTests.

import CLinux
import DMA
import FrameMaps
import Glibc
import LinuxSystem
import SharedMemory
import TestSupport
import Testing

@testable import HostIommu

@Suite(.timeLimit(.minutes(1)))
struct DeviceSpaceTests {
    private func open(_ name: String, _ kernel: FakeKernel, limit: UInt64? = nil) throws -> DeviceSpace {
        try DeviceSpace.open(name, account: LockedMemoryAccount(limit: limit), kernel: kernel).space
    }

    /// The three of them do the same.
    @Test(arguments: ["vfio-type1:/dev/vfio/12", "iommufd", "software"])
    func sameRules(name: String) throws {
        let kernel = FakeKernel()
        let space = try open(name, kernel, limit: 20 * 4096)
        let region = try SharedRegion(anonymous: 16 * 4096)
        func run(_ pages: Range<Int>) throws -> MemoryRun { try #require(MemoryRun(region, pages: pages)) }
        #expect(try space.map(try run(0..<4), .bidirectional, at: Iova(rawValue: 0x100_0000)) == Iova(rawValue: 0x100_0000))
        #expect(try space.map(try run(4..<6), .bidirectional, at: Iova(rawValue: 0x100_4000)).rawValue == 0x100_4000)
        let elsewhere = try space.map(try run(8..<16), .toDevice)
        #expect(space.busAddress(of: region.address + 5, byteCount: 100_000)?.inRow == 6 * 4096 - 5)
        #expect(space.address(of: Iova(rawValue: 0x100_5001)) == region.address + 5 * 4096 + 1)
        #expect(throws: DMABackEndError.lockedMemory(needed: 7 * 4096, left: 6 * 4096, limit: 20 * 4096)) {
            _ = try space.map(try run(1..<8), .fromDevice)
        }
        #expect(space.account.refused.count == 1 && space.account.refused.bytes == 7 * 4096)
        #expect(
            throws: DMABackEndError.cutsMapping(
                Iova(rawValue: 0x100_1000), byteCount: 0x5000, mapped: Iova(rawValue: 0x100_0000), of: 4 * 4096)
        ) { _ = try space.unmap(Iova(rawValue: 0x100_1000), byteCount: 0x5000) }
        #expect(try space.withdraw(region.address + 9 * 4096, byteCount: 1) == 8 * 4096)
        #expect(space.address(of: elsewhere) == nil)
        #expect(try space.unmap(Iova(rawValue: 0x100_0000), byteCount: 0x6000) == 6 * 4096)
        #expect(space.account.bytes == 0 && space.mapped.isEmpty)
        #expect(throws: DMABackEndError.notMapped) { _ = try space.unmap(Iova(rawValue: 0x100_0000), byteCount: 0x6000) }
    }

    /// What the kernel does not unmap stays mapped, found and charged.
    @Test func unmapThatFails() throws {
        let kernel = FakeKernel()
        let space = try open("vfio-type1:/dev/vfio/12", kernel)
        let region = try SharedRegion(anonymous: 2 * 4096)
        let iova = try space.map(try #require(MemoryRun(region)), .bidirectional)
        kernel.shortUnmaps = 1
        #expect(throws: DMABackEndError.unmappedOther(byteCount: 8192, ended: 0)) { _ = try space.unmapAll() }
        #expect(space.busAddress(of: region.address)?.iova == iova && space.account.bytes == 8192)
        #expect(try space.unmapAll() == 8192)
    }

    @Test func budgetWithinTheWhole() throws {
        let whole = LockedMemoryAccount(limit: 10 * 4096)
        let (one, other) = (LockedMemoryAccount(limit: 8 * 4096, within: whole), LockedMemoryAccount(limit: nil, within: whole))
        try one.charge(6 * 4096)
        #expect(one.bytesLeft == 2 * 4096 && other.bytesLeft == 4 * 4096)
        #expect(throws: DMABackEndError.lockedMemory(needed: 5 * 4096, left: 4 * 4096, limit: 10 * 4096)) {
            try other.charge(5 * 4096)
        }
        #expect(other.bytes == 0 && other.refused.count == 1 && whole.bytes == 6 * 4096)
        one.release(6 * 4096)
        #expect(whole.bytes == 0)
    }

    @Test func gaps() {
        let all: [ClosedRange<UInt64>] = [0...UInt64.max]
        #expect(DeviceSpace.gaps([], in: all) == all)
        #expect(DeviceSpace.gaps(all, in: all).isEmpty)
        #expect(DeviceSpace.gaps([0...9, 20...29, 30...UInt64.max], in: all) == [10...19])
        #expect(DeviceSpace.gaps([5...6], in: [0...5, 6...9]) == [0...4, 7...9])
        #expect(DeviceSpace.gaps([5...5], in: [0...4, 6...9]) == [0...4, 6...9])
    }

    @Test func vectors() throws {
        let kernel = FakeKernel()
        let device = try kernel.open("/dev/vfio/devices/vfio0")
        #expect(try DeviceVectors.count(of: .msix, device, kernel: kernel) == 65)
        #expect(throws: DMABackEndError.noVectors(.msix, wanted: 66, there: 65)) {
            _ = try DeviceVectors(.msix, count: 66, of: device, kernel: kernel)
        }
        let before = Descriptor.openCount
        do {
            let vectors = try DeviceVectors(.msix, count: 3, of: device, kernel: kernel)
            #expect(kernel.vectorEvents == vectors.events.map(\.rawValue))
            vectors.events[1].addCount(4)
            #expect(try vectors.take(1, milliseconds: 1000) == 4)
            #expect(try vectors.take(1) == 0)
            #expect(throws: DMABackEndError.noVectors(.msix, wanted: 4, there: 3)) { _ = try vectors.take(3) }
        }
        #expect(Descriptor.openCount == before)
        kernel.failures[Int(CAUSEWAY_VFIO_DEVICE_SET_IRQS)] = [EINVAL]
        #expect(throws: DMABackEndError.kernel("VFIO_DEVICE_SET_IRQS of 2 MSI-X vectors", Errno(EINVAL))) {
            _ = try DeviceVectors(.msix, count: 2, of: device, kernel: kernel)
        }
        #expect(Descriptor.openCount == before)
    }

    /// A space that cannot map what is registered refuses it for all; what it cannot unmap does not stop the rest.
    @Test func registry() throws {
        let kernel = FakeKernel()
        let (space, small) = (try open("vfio-type1:/dev/vfio/12", kernel), try open("software", kernel, limit: 4096))
        let registry = try MemoryRegistry()
        let region = try SharedRegion(anonymous: 2 * 4096)
        try registry.join(space)
        try registry.join(small)
        #expect(throws: RegistryError.self) { try registry.register(region) }
        #expect(space.mapped.isEmpty && small.mapped.isEmpty)
        try registry.leave(small)
        try registry.register(region)
        #expect(kernel.container.count == 1 && space.busAddress(of: region.address) != nil)
        registry.close()
        #expect(kernel.container.isEmpty)
    }
}
