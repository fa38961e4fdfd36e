// attacks.md PM15, PM21 and PM22: what a device writes too little of, may not touch, and touches all the same a million
// times.

import FrameMaps
import SharedMemory
import TestSupport
import Testing

@testable import DMA

@Suite(.timeLimit(.minutes(1)))
struct AccessAttackTests {
    /// What the device reads or writes at a segment's byte; nil if that faults.
    private func place(
        _ device: DMADevice, _ segments: [BusSegment], _ byte: Int, _ direction: DMADirection
    ) throws -> UnsafeMutableRawPointer? {
        var left = UInt64(byte)
        for segment in segments {
            if left < UInt64(segment.byteCount) {
                let address = try #require(segment.address.advanced(by: left))
                return unsafe device.bus.resolveRun(BusSegment(address: address, byteCount: 1), direction)?.memory
            }
            left -= UInt64(segment.byteCount)
        }
        return nil
    }

    /// attacks.md PM15: every slot of the pool has held somebody's secret. A device that writes 0, 1, n - 1 or all of n
    /// bytes shows the caller what it wrote and, for the rest, what the caller had there before; a partial
    /// synchronization the same, of its part; and to the device goes nothing but the caller's bytes and zeros.
    @Test(arguments: [DMADirection.fromDevice, .bidirectional, .toDevice], [nil, IommuMode.strict])
    func PM15_bouncesLeakNothingOld(_ direction: DMADirection, _ iommu: IommuMode?) throws {
        let limits = DMAConstraints(mask: iommu == nil ? 0xFFFF_FFFF : .max, isUntrusted: true)
        let options = DMAOptions(model: .p2m, iommu: iommu, constraints: limits, bouncePool: 1 << 16)
        let device = try DMADevice(name: "d", options: options)
        let (secret, own) = (try SharedRegion(anonymous: 16 * 4096), try SharedRegion(anonymous: 2 * 4096))
        secret.fill(0, count: 16 * 4096, with: 0xCA)
        let (secretBase, base) = (try #require(device.attach(secret)), try #require(device.attach(own)))
        var segments: [BusSegment] = []
        // Parts of pages: an untrusted device is never shown a page that is not the transfer's alone.
        for (offset, count) in [(0, 1), (1, 1), (100, 700), (4095, 1), (2047, 2049), (0, 2048), (512, 3000)] as [(UInt32, UInt32)] {
            for written in Set([0, 1, Int(count) - 1, Int(count)]) {
                // All slots at once, so that none is left out.
                let pieces = try (0..<16 as Range<UInt64>).map {
                    PagePiece(pfn: try #require(secretBase.advanced(by: $0)), offset: 0, byteCount: 4095)
                }
                let poison = try device.map(pieces.span, .toDevice, into: &segments)
                #expect(device.pool?.slotsInUse == 32)
                try device.unmap(poison, .toDevice)
                segments.removeAll()

                let before = (0..<8192).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ written) & 0x7F }
                own.write(before, at: 0)
                let piece = [PagePiece(pfn: base, offset: offset, byteCount: count)]
                let handle = try device.map(piece.span, direction, into: &segments)
                #expect(device.pool?.slotsInUse ?? 0 > 0)
                if direction != .fromDevice {
                    for byte in 0..<Int(count) {
                        let seen = unsafe try place(device, segments, byte, .toDevice)?.load(as: UInt8.self)
                        try #require(seen == before[Int(offset) + byte])
                    }
                }
                var expected = before
                if direction != .toDevice {
                    for byte in 0..<written {
                        unsafe try place(device, segments, byte, .fromDevice)?.storeBytes(of: 0xD0, as: UInt8.self)
                        expected[Int(offset) + byte] = 0xD0
                    }
                    let part = Int(count) / 2
                    try device.syncForCPU(handle, offset: 0, byteCount: part)
                    expectSame(own.bytes(at: Int(offset), count: part), expected[Int(offset)..<Int(offset) + part])
                    expectSame(
                        own.bytes(at: Int(offset) + part, count: Int(count) - part),
                        before[Int(offset) + part..<Int(offset) + Int(count)])
                }
                // What the device can reach beyond the transfer, in its pages: zeros, never the secret. Nothing but an
                // IOMMU binds it.
                if iommu != nil { #expect(!reachable(device, segments).contains(0xCA)) }
                try device.unmap(handle, direction)
                segments.removeAll()
                expectSame(own.bytes(at: 0, count: 8192), expected)
            }
        }
        try device.close()
    }

    /// Every byte in the pages of these segments that the device can read.
    private func reachable(_ device: DMADevice, _ segments: [BusSegment]) -> [UInt8] {
        var bytes: [UInt8] = []
        for segment in segments {
            let page = segment.address.rawValue & ~4095
            for offset in 0..<4096 as Range<UInt64> {
                let one = BusSegment(address: BusAddress(rawValue: page + offset), byteCount: 1)
                if let run = unsafe device.bus.resolveRun(one, .toDevice) { bytes.append(unsafe run.memory.load(as: UInt8.self)) }
            }
        }
        return bytes
    }

    /// attacks.md PM21: behind an IOMMU a device writes nothing that it may only read and reads nothing that it may
    /// only write. It is refused, the record says who, where and why, no byte changes, and another device's mapping of
    /// the same page serves on.
    @Test(arguments: [IommuMode.strict, .deferred])
    func PM21_permissionsBindTheDevice(_ mode: IommuMode) throws {
        let (device, other) = (
            try DMADevice(name: "vbd-1", options: DMAOptions(model: .p2m, iommu: mode)),
            try DMADevice(name: "vbd-2", options: DMAOptions(model: .p2m, iommu: mode))
        )
        let memory = try SharedRegion(anonymous: 4096)
        memory.fill(0, count: 4096, with: 0x33)
        let (base, otherBase) = (try #require(device.attach(memory)), try #require(other.attach(memory)))
        let piece = [PagePiece(pfn: base, offset: 0, byteCount: 4096)]
        let otherPiece = [PagePiece(pfn: otherBase, offset: 0, byteCount: 4096)]
        var (segments, otherSegments): ([BusSegment], [BusSegment]) = ([], [])
        let second = try other.map(otherPiece.span, .bidirectional, into: &otherSegments)
        for (direction, wrong, cause) in [
            (.toDevice, .fromDevice, .writeDenied), (.fromDevice, .toDevice, .readDenied),
        ] as [(DMADirection, DMADirection, IOFault.Cause)] {
            let handle = try device.map(piece.span, direction, into: &segments)
            let segment = try #require(segments.first)
            // Also after the IOTLB knows the page from a right access.
            for round in 0..<2 {
                #expect(unsafe device.bus.resolveRun(segment, wrong) == nil, "\(direction), round \(round)")
                let fault = try #require(device.iommu?.takeFaults().last)
                #expect(fault == IOFault(device: "vbd-1", iova: Iova(rawValue: segment.address.rawValue), cause: cause))
                #expect(unsafe device.bus.resolveRun(segment, direction) != nil)
            }
            try device.unmap(handle, direction)
            segments.removeAll()
            device.settle()
        }
        let seen = try #require(otherSegments.first)
        #expect(unsafe other.bus.resolveRun(seen, .toDevice)?.memory.load(as: UInt8.self) == 0x33)
        #expect(unsafe other.bus.resolveRun(seen, .fromDevice) != nil && other.iommu?.faults.count == 0)
        expectSame(memory.bytes(at: 0, count: 4096), [UInt8](repeating: 0x33, count: 4096))
        try other.unmap(second, .bidirectional)
        try device.close()
        try other.close()
    }

    /// attacks.md PM22: a million faults are a count and the first few of them, for each time that they are read; what
    /// is mapped serves on. The backend's line a second is BlockBackendTests' matter.
    @Test func PM22_aFaultStormIsACount() throws {
        let domain = try IommuDomain(device: "d", mode: .strict)
        try domain.link(Iova(rawValue: 1 << 30), to: bus(5), pages: 1, .readWrite)
        for storm in 1...2 as ClosedRange<UInt64> {
            let reached = (0..<500_000 as Range<UInt64>).count { number in
                domain.translate(Iova(rawValue: number << 12 & (1 << 29 - 1)), writes: number % 2 == 0) != nil
            }
            #expect(reached == 0)
            #expect(domain.faults.count == storm * 500_000 && domain.faults.recent.count == IOFaultLog.limit)
            #expect(domain.takeFaults().count == IOFaultLog.limit && domain.faults.recent.isEmpty)
            #expect(domain.translate(Iova(rawValue: 1 << 30), writes: true) == bus(5))
        }
        #expect(domain.translate(Iova(rawValue: .max), writes: false) == nil)
    }
}
