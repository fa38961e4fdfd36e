// The back ends by name, and what all of them must do alike.

import DMA
import FrameMaps
import LinuxSystem
import SharedMemory
import Testing

@testable import HostIommu

@Suite(.timeLimit(.minutes(1)))
struct BackEndTests {
    private static let all = [
        "direct", "identity", "vp", "iommu", "vfio-type1:/dev/vfio/12", "iommufd", "iommufd:/dev/vfio/devices/vfio0",
    ]

    private func make(_ specification: String, _ kernel: FakeKernel = FakeKernel(), limit: UInt64? = nil) throws -> any DMABackEnd {
        var settings = DMABackEndSettings(device: "d", account: LockedMemoryAccount(limit: limit), kernel: kernel)
        settings.options.seed = 9
        return try DMABackEnds.make(specification, settings)
    }

    /// What a device sees of a mapping: the address in this process of each of its pages, or nil where it faults.
    private func reach(_ back: any DMABackEnd, _ kernel: FakeKernel, _ mapping: BackEndMapping) -> [UInt64?] {
        mapping.segments.flatMap { segment in
            stride(from: UInt64(0), to: UInt64(segment.byteCount), by: 4096).map { offset -> UInt64? in
                let address = segment.address.advanced(by: offset)!
                let writes = mapping.direction == .fromDevice
                if let model = back as? ModelBackEnd {
                    let part = BusSegment(address: address, byteCount: 1)
                    return model.bus.resolveRun(part, mapping.direction).map { UInt64(UInt(bitPattern: $0.memory)) }
                }
                let space = (back as? IommufdSpace)?.id
                return kernel.access(address.rawValue, writes: writes, space: space).map { UInt64(UInt(bitPattern: $0)) }
            }
        }
    }

    @Test(arguments: all) func alike(_ specification: String) throws {
        let kernel = FakeKernel()
        let regions = SharedRegion.liveCount
        do {
            let back = try make(specification, kernel)
            #expect(specification.hasPrefix(back.name) && back.limits.granule == 4096 && !back.limits.addresses.isEmpty)
            let whole = try memory(16)
            let runs = try [0..<16, 3..<5, 15..<16].map { try #require(MemoryRun(whole.region, pages: $0)) }
            var mappings: [BackEndMapping] = []
            for (index, run) in runs.enumerated() {
                let mapping = try back.map(run, index == 1 ? .fromDevice : .toDevice)
                #expect(mapping.segments.reduce(0) { $0 + UInt64($1.byteCount) } == run.byteCount)
                if back.name != "direct" { #expect(mapping.segments.count == 1) }
                #expect(reach(back, kernel, mapping) == (0..<UInt64(run.pageCount)).map { run.address + $0 << 12 })
                try back.sync(
                    mapping, offset: 4096 * UInt64(run.pageCount) - 1, byteCount: 1, for: index == 1 ? .processor : .device)
                #expect(throws: DMABackEndError.self) {
                    try back.sync(mapping, offset: run.byteCount, byteCount: 1, for: index == 1 ? .processor : .device)
                }
                mappings.append(mapping)
            }
            #expect(back.liveMappings == 3)
            // Of the same device, another back end's mapping is nothing.
            let other = try make(specification, kernel)
            #expect(throws: DMABackEndError.notMapped) { try other.unmap(mappings[0]) }
            for mapping in [mappings[1], mappings[0], mappings[2]] {
                try back.unmap(mapping)
                #expect(throws: DMABackEndError.notMapped) { try back.unmap(mapping) }
            }
            back.flush()
            #expect(back.liveMappings == 0)
            for mapping in mappings { #expect(reach(back, kernel, mapping).allSatisfy { $0 == nil }) }
        }
        #expect(SharedRegion.liveCount == regions)
    }

    @Test func mappingsLeftBehindGoWithTheBackEnd() throws {
        let regions = SharedRegion.liveCount
        for specification in Self.all {
            let back = try make(specification)
            for _ in 0..<3 { _ = try back.map(try memory(2), .toDevice) }
        }
        #expect(SharedRegion.liveCount == regions)
    }

    @Test func readOnlyMemoryIsNotWritten() throws {
        let whole = try SharedRegion(anonymous: 4096)
        let sealed = unsafe SharedRegion(adopting: whole.unsafeBase, byteCount: 4096, writable: false) { _, _ in }
        for specification in ["direct", "identity", "vp", "iommu"] {
            let back = try make(specification)
            let run = try #require(MemoryRun(sealed))
            #expect(throws: DMABackEndError.self) { _ = try back.map(run, .fromDevice) }
            try back.unmap(try back.map(run, .toDevice))
        }
        withExtendedLifetime(whole) {}
    }

    @Test func faultsOfTheSoftwareIommu() throws {
        let back = try #require(try make("iommu") as? ModelBackEnd)
        let mapping = try back.map(try memory(1), .toDevice)
        let segment = mapping.segments[0]
        #expect(back.takeFaults() == DMAFaults())
        #expect(!back.bus.isReachable(segment, .fromDevice))
        #expect(back.takeFaults().recent.map(\.cause) == [.writeDenied])
        try back.unmap(mapping)
        #expect(!back.bus.isReachable(segment, .toDevice) && !back.bus.isReachable(segment, .toDevice))
        let faults = back.takeFaults()
        #expect(
            faults.count == 2
                && faults.recent.map(\.description)
                    == Array(repeating: "d: \(Iova(rawValue: segment.address.rawValue)): not mapped", count: 2)
        )
        #expect(back.takeFaults().count == 0)
    }

    @Test func names() throws {
        #expect(DMABackEnds.names == ["direct", "identity", "vp", "iommu", "vfio-type1", "iommufd"])
        for wrong in ["vfio", "", "Direct", "iommufd2", "direct:x"] {
            #expect(throws: DMABackEndError.unknown(name: wrong, known: DMABackEnds.names)) { _ = try make(wrong) }
        }
        #expect(
            "\(DMABackEndError.unknown(name: "vfio", known: DMABackEnds.names))"
                == "no DMA back end is called vfio; there are direct, identity, vp, iommu, vfio-type1, iommufd")
        #expect(throws: DMABackEndError.needsArgument(name: "vfio-type1", what: "a group's node, /dev/vfio/GROUP")) {
            _ = try make("vfio-type1")
        }
        let kernel = FakeKernel()
        kernel.missing = ["/dev/iommu"]
        #expect(DMABackEnds.iommufd.obstacle(kernel) == "/dev/iommu: No such file or directory")
        #expect(DMABackEnds.vfioType1.obstacle(kernel) == nil && DMABackEnds.vp.obstacle(kernel) == nil)
    }

    /// The numbers that the kernel is called with and the sizes that it is told (linux: <linux/vfio.h>,
    /// <linux/iommufd.h>).
    @Test func numbersAndSizes() throws {
        let kernel = FakeKernel()
        for specification in ["vfio-type1:/dev/vfio/12", "iommufd:/dev/vfio/devices/vfio0"] {
            let back = try make(specification, kernel)
            let run = try memory(1)
            let mappings = [try back.map(run, .toDevice), try back.map(run, .toDevice)]
            for mapping in mappings { try back.unmap(mapping) }
        }
        #expect(
            Set(kernel.calls) == [
                0x3B64, 0x3B65, 0x3B66, 0x3B67, 0x3B68, 0x3B70, 0x3B71, 0x3B72, 0x3B76, 0x3B77, 0x3B78, 0x3B80, 0x3B81, 0x3B83,
                0x3B85,
                0x3B86,
            ])
    }

    @Test func runs() throws {
        let region = try SharedRegion(anonymous: 4 * 4096)
        #expect(MemoryRun(region)?.pageCount == 4 && MemoryRun(region, pages: 3..<4)?.byteCount == 4096)
        for wrong in [0..<5, 2..<2, -1..<2, 4..<5] { #expect(MemoryRun(region, pages: wrong) == nil) }
        // More than a segment can say.
        let parts = BackEndMapping.segments(from: 1 << 40, byteCount: 9 << 30)
        #expect(parts.count == 3 && parts.reduce(0) { $0 + UInt64($1.byteCount) } == 9 << 30)
        for (a, b) in zip(parts, parts.dropFirst()) { #expect(a.address.advanced(by: UInt64(a.byteCount)) == b.address) }
    }
}
