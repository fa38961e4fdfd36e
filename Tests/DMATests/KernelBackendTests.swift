// VFIO and iommufd: our structures against the kernel's headers; then against a container that keeps the rules, refuses and lies on request. Last against
// the kernel, where it has the interface.

import CKernelLayout
import CLinux
import FrameMaps
import Glibc
import LinuxSystem
import SharedMemory
import Testing

@testable import DMA

/// A container as the kernel has it (translation.md 2.9), with what it was asked.
private final class FakeContainer: KernelControl {
    var mappings: [UInt64: (address: UInt64, count: UInt64, flags: UInt32)] = [:]
    var refusal = 0
    var entryLimit: UInt32? = 4
    var unmapsShort = false
    var pageSizes: UInt64 = 4096 | 2 << 20
    var hasGroup = true
    var spaces = 0

    private func field<N: FixedWidthInteger>(_ bytes: [UInt8], _ offset: Int, _ type: N.Type) -> N {
        var value: N = 0
        for index in 0..<N.bitWidth / 8 { value |= N(bytes[offset + index]) << N(index * 8) }
        return value
    }
    private func put<N: FixedWidthInteger>(_ value: N, _ bytes: inout [UInt8], _ offset: Int) {
        for index in 0..<N.bitWidth / 8 { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> N(index * 8)) }
    }

    func control(_ request: UInt, _ bytes: inout [UInt8]) -> Int {
        switch request {
        case 0x3B64: return 0
        case 0x3B66: return !hasGroup ? -Int(EINVAL) : field(bytes, 0, UInt32.self) == 3 ? 0 : -Int(EINVAL)
        case 0x3B70: return info(&bytes)
        case 0x3B71:
            guard field(bytes, 0, UInt32.self) == 32 else { return -Int(EINVAL) }
            return map(field(bytes, 16, UInt64.self), field(bytes, 8, UInt64.self), field(bytes, 24, UInt64.self), field(bytes, 4, UInt32.self))
        case 0x3B72: return unmap(&bytes, iova: 8, count: 16)
        case 0x3B81:
            spaces += 1
            put(UInt32(7), &bytes, 8)
            return 0
        case 0x3B85:
            guard field(bytes, 8, UInt32.self) == 7, field(bytes, 4, UInt32.self) & 1 == 1 else { return -Int(ENOENT) }
            return map(field(bytes, 32, UInt64.self), field(bytes, 16, UInt64.self), field(bytes, 24, UInt64.self), field(bytes, 4, UInt32.self))
        case 0x3B86: return field(bytes, 4, UInt32.self) == 7 ? unmap(&bytes, iova: 8, count: 16) : -Int(ENOENT)
        case 0x3B80:
            spaces -= 1
            return 0
        default: return -Int(ENOTTY)
        }
    }

    private func info(_ bytes: inout [UInt8]) -> Int {
        put(UInt32(48), &bytes, 0)
        put(pageSizes, &bytes, 8)
        guard let entryLimit else {
            put(UInt32(1), &bytes, 4)
            return 0
        }
        put(UInt32(3), &bytes, 4)
        guard bytes.count >= 48 else { return 0 }
        // A capability that is not the one, then the one.
        put(UInt32(24), &bytes, 16)
        put(UInt16(1), &bytes, 24)
        put(UInt32(32), &bytes, 28)
        put(UInt16(3), &bytes, 32)
        put(UInt32(0), &bytes, 36)
        put(entryLimit, &bytes, 40)
        return 0
    }

    private func map(_ iova: UInt64, _ address: UInt64, _ count: UInt64, _ flags: UInt32) -> Int {
        if refusal != 0 { return -refusal }
        guard count > 0, (iova | address | count) & 4095 == 0, flags & 7 != 0 else { return -Int(EINVAL) }
        for (other, mapping) in mappings where iova < other + mapping.count && other < iova + count { return -Int(EEXIST) }
        mappings[iova] = (address, count, flags)
        return 0
    }

    private func unmap(_ bytes: inout [UInt8], iova: Int, count: Int) -> Int {
        if refusal != 0 { return -refusal }
        let (start, length) = (field(bytes, iova, UInt64.self), field(bytes, count, UInt64.self))
        guard let mapping = mappings[start], mapping.count == length else { return -Int(EINVAL) }
        if unmapsShort {
            put(UInt64(0), &bytes, count)
            return 0
        }
        mappings[start] = nil
        put(length, &bytes, count)
        return 0
    }
}

@Suite(.timeLimit(.minutes(1)))
struct KernelBackendTests {
    @Test func vfioLayout() {
        let ours: [(String, Int)] = [
            ("VFIO_GET_API_VERSION", Int(VfioLayout.getAPIVersion)), ("VFIO_CHECK_EXTENSION", Int(VfioLayout.checkExtension)),
            ("VFIO_SET_IOMMU", Int(VfioLayout.setIommu)), ("VFIO_IOMMU_GET_INFO", Int(VfioLayout.getInfo)),
            ("VFIO_IOMMU_MAP_DMA", Int(VfioLayout.mapDMA)), ("VFIO_IOMMU_UNMAP_DMA", Int(VfioLayout.unmapDMA)),
            ("VFIO_TYPE1v2_IOMMU", Int(VfioLayout.type1v2)), ("VFIO_DMA_MAP_FLAG_READ", Int(VfioLayout.readable)),
            ("VFIO_DMA_MAP_FLAG_WRITE", Int(VfioLayout.writable)), ("VFIO_IOMMU_INFO_PGSIZES", Int(VfioLayout.infoHasPageSizes)),
            ("VFIO_IOMMU_INFO_CAPS", Int(VfioLayout.infoHasCapabilities)),
            ("VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL", Int(VfioLayout.dmaAvailable)), ("map size", VfioLayout.mapSize),
            ("map flags", VfioLayout.mapFlags), ("map vaddr", VfioLayout.mapAddress), ("map iova", VfioLayout.mapIova),
            ("map count", VfioLayout.mapCount), ("unmap size", VfioLayout.unmapSize), ("unmap flags", VfioLayout.unmapFlags),
            ("unmap iova", VfioLayout.unmapIova), ("unmap count", VfioLayout.unmapCount), ("info size", VfioLayout.infoSize),
            ("info flags", VfioLayout.infoFlags), ("info pgsizes", VfioLayout.infoPageSizes), ("info caps", VfioLayout.infoCapabilities),
            ("cap next", VfioLayout.capabilityNext), ("cap avail", VfioLayout.capabilityAvailable),
        ]
        for (name, value) in ours { #expect(kernel_layout(name) == value, "\(name)") }
    }

    @Test(.enabled(if: kernel_has_iommufd_header() == 1, "<linux/iommufd.h> is not among this machine's headers (Linux 6.2)"))
    func iommufdLayout() {
        let ours: [(String, Int)] = [
            ("IOMMU_DESTROY", Int(IommufdLayout.destroy)), ("IOMMU_IOAS_ALLOC", Int(IommufdLayout.allocate)),
            ("IOMMU_IOAS_MAP", Int(IommufdLayout.map)), ("IOMMU_IOAS_UNMAP", Int(IommufdLayout.unmap)),
            ("IOMMU_IOAS_MAP_FIXED_IOVA", Int(IommufdLayout.fixedIova)), ("IOMMU_IOAS_MAP_WRITEABLE", Int(IommufdLayout.writable)),
            ("IOMMU_IOAS_MAP_READABLE", Int(IommufdLayout.readable)), ("ioas alloc size", IommufdLayout.allocateSize),
            ("ioas alloc id", IommufdLayout.allocateID), ("ioas map size", IommufdLayout.mapSize),
            ("ioas map flags", IommufdLayout.mapFlags), ("ioas map id", IommufdLayout.mapSpace),
            ("ioas map va", IommufdLayout.mapAddress), ("ioas map length", IommufdLayout.mapCount),
            ("ioas map iova", IommufdLayout.mapIova), ("ioas unmap size", IommufdLayout.unmapSize),
            ("ioas unmap id", IommufdLayout.unmapSpace), ("ioas unmap iova", IommufdLayout.unmapIova),
            ("ioas unmap length", IommufdLayout.unmapCount), ("destroy size", IommufdLayout.destroySize),
        ]
        for (name, value) in ours { #expect(kernel_layout(name) == value, "\(name)") }
    }

    private func backend(_ name: String, _ container: FakeContainer, lock: Int = 1 << 20) throws -> any DMABackend {
        name == "vfio"
            ? try VfioBackend(device: "d", control: container, lockLimit: lock)
            : try IommufdBackend(device: "d", control: container, lockLimit: lock)
    }

    @Test(arguments: ["vfio", "iommufd"])
    func mapsAndAccounts(_ name: String) throws {
        let container = FakeContainer()
        let region = try SharedRegion(anonymous: 8 * 4096)
        do {
            let backend = try backend(name, container)
            let before = backend.budget
            let read = try backend.map(region, pages: 0..<2, .toDevice)
            let write = try backend.map(region, pages: 2..<8, .fromDevice)
            #expect(backend.budget.lockedBytes == 8 * 4096)
            #expect(backend.budget.lockedBytesLeft == (1 << 20) - 8 * 4096)
            if name == "vfio" { #expect(backend.budget.mappingsLeft == 2) }
            let base = UInt64(UInt(bitPattern: unsafe region.unsafeBase))
            let one = try #require(container.mappings[write[0].address.rawValue])
            #expect(one.address == base + 2 * 4096 && one.count == 6 * 4096)
            #expect(one.flags & (name == "vfio" ? 3 : 6) == 2)
            // Nothing but exactly what was mapped.
            #expect(throws: DMAError.notMapped) {
                try backend.unmap([BusSegment(address: write[0].address.advanced(by: 4096)!, byteCount: 4096)])
            }
            #expect(throws: DMAError.self) { try backend.unmap([BusSegment(address: write[0].address, byteCount: 4096)]) }
            try backend.unmap(write)
            #expect(throws: DMAError.notMapped) { try backend.unmap(write) }
            try backend.unmap(read)
            #expect(backend.budget == before && container.mappings.isEmpty)
            _ = try backend.map(region, pages: 0..<1, .bidirectional)
        }
        // What was left is unmapped when the back end goes.
        #expect(container.mappings.isEmpty && container.spaces == 0)
    }

    @Test(arguments: ["vfio", "iommufd"])
    func refusals(_ name: String) throws {
        let container = FakeContainer()
        let backend = try backend(name, container, lock: 6 * 4096)
        let region = try SharedRegion(anonymous: 8 * 4096)
        #expect(throws: DMAError.overBudget(what: "locked memory", asked: 8 * 4096, left: 6 * 4096)) {
            _ = try backend.map(region, pages: 0..<8, .toDevice)
        }
        #expect(throws: DMAError.self) { _ = try backend.map(region, pages: 7..<9, .toDevice) }
        container.refusal = Int(ENOMEM)
        #expect(throws: DMAError.self) { _ = try backend.map(region, pages: 0..<1, .toDevice) }
        container.refusal = 0
        let mapped = try backend.map(region, pages: 0..<1, .toDevice)
        // The kernel does not do it, or says that it did nothing: the memory still counts as the device's.
        container.refusal = Int(EBUSY)
        #expect(throws: DMAError.self) { try backend.unmap(mapped) }
        container.refusal = 0
        container.unmapsShort = true
        #expect(throws: DMAError.self) { try backend.unmap(mapped) }
        #expect(backend.budget.lockedBytes == 4096)
        container.unmapsShort = false
        try backend.unmap(mapped)
        #expect(backend.budget.lockedBytes == 0)
        if name == "vfio" {
            let all = try (0..<4).map { try backend.map(region, pages: $0..<$0 + 1, .toDevice) }
            #expect(throws: DMAError.overBudget(what: "mappings of vfio", asked: 1, left: 0)) {
                _ = try backend.map(region, pages: 4..<5, .toDevice)
            }
            for segments in all { try backend.unmap(segments) }
        }
    }

    @Test func containersThatCannot() throws {
        let container = FakeContainer()
        container.hasGroup = false
        #expect(throws: DMAError.refused(operation: "vfio: no type 1 IOMMU (is a group in the container?)", errno: EINVAL)) {
            _ = try VfioBackend(device: "d", control: container)
        }
        container.hasGroup = true
        container.pageSizes = 65536
        #expect(throws: DMAError.self) { _ = try VfioBackend(device: "d", control: container) }
        container.pageSizes = 4096
        container.entryLimit = nil
        #expect(try VfioBackend(device: "d", control: container).budget.mappingsLeft == 65535)
    }

    @Test func faultsAreEvents() throws {
        let backend = try VfioBackend(device: "d", control: FakeContainer())
        let event = Descriptor(owning: causeway_eventfd())
        backend.watchFaults(event)
        #expect(backend.takeFaults().isEmpty)
        var count: UInt64 = 3
        #expect(write(event.rawValue, &count, 8) == 8)
        #expect(backend.takeFaults().map(\.cause) == [.reportedByDevice, .reportedByDevice, .reportedByDevice])
        #expect(backend.takeFaults().isEmpty)
    }

    @Test(.enabled(if: access("/dev/iommu", R_OK | W_OK) == 0, "this kernel has no /dev/iommu"))
    func theKernelsIommufd() throws {
        let backend = try DMABackends.make("iommufd", device: "d")
        let region = try SharedRegion(anonymous: 4 * 4096)
        region.fill(0, count: 4 * 4096, with: 1)
        let segments = try backend.map(region, pages: 0..<4, .bidirectional)
        #expect(segments[0].byteCount == 4 * 4096)
        try backend.unmap(segments)
        #expect(throws: DMAError.notMapped) { try backend.unmap(segments) }
    }

    @Test(arguments: ["direct", "identity", "vp", "iommu"])
    func ownBackends(_ name: String) throws {
        let backend = try DMABackends.make(name, device: "d")
        #expect(backend.name == name)
        let region = try SharedRegion(anonymous: 4 * 4096)
        let segments = try backend.map(region, pages: 1..<4, .fromDevice)
        #expect(segments.reduce(0) { $0 + Int($1.byteCount) } == 3 * 4096)
        // Scattered machine frames are as many segments; everything else is one run.
        #expect(segments.count == (name == "direct" ? 3 : 1))
        let bus = try #require(backend as? FrameBackend).device.bus
        #expect(bus.isReachable(segments[0], .fromDevice))
        try backend.unmap(segments)
        #expect(!bus.isReachable(segments[0], .fromDevice))
        #expect(throws: DMAError.notMapped) { try backend.unmap(segments) }
        if name == "iommu" { #expect(!backend.takeFaults().isEmpty) }
    }

    @Test func unknownNames() {
        #expect(throws: DMAError.noSuchBackend("swiotlb")) { _ = try DMABackends.make("swiotlb", device: "d") }
        if access("/dev/vfio/vfio", F_OK) != 0 {
            #expect(throws: DMAError.refused(operation: "opening /dev/vfio/vfio", errno: ENOENT)) {
                _ = try DMABackends.make("vfio", device: "d")
            }
        }
    }
}
