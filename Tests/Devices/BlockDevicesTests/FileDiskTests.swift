@testable import BlockDevices
@testable import DMA
import Foundation
import Glibc
@testable import LinuxSystem
import Reactor
import SharedMemory
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(1)))
struct FileDiskTests {
    @Test func whatIsWrittenIsRead() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.file(byteCount: 1 << 20)
        let harness = try DiskHarness(try FileDisk(path: path))
        defer { harness.close() }
        let bytes = (0..<12288).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        #expect(try harness.write(bytes, at: 4096) == .done)
        let (result, back) = try harness.read(12288, at: 4096)
        #expect(result == .done)
        expectSame(back, bytes)
        expectSame(try Data(contentsOf: URL(fileURLWithPath: path))[4096..<16384], bytes)
        #expect(try harness.perform(.flush) == .done)
        let statistics = harness.statistics
        #expect(statistics.reads == 1 && statistics.writes == 1 && statistics.flushes == 1 && statistics.errors == 0)
        #expect(statistics.bytesRead == 12288 && statistics.bytesWritten == 12288)
    }

    /// Pages of a file that are not on its disk, as the kernel counts them (`cachestat(2)`, Linux 6.5); nil: it does
    /// not.
    private func dirtyPages(_ path: String) throws -> Int? {
        let program = """
            import ctypes, os, sys
            range, found = (ctypes.c_uint64 * 2)(), (ctypes.c_uint64 * 5)()
            file = os.open(sys.argv[1], os.O_RDONLY)
            print(found[1] + found[2] if ctypes.CDLL(None).syscall(451, file, range, found, 0) == 0 else "")
            """
        return Int(try command("python3", "-c", program, path).trimmingCharacters(in: .whitespacesAndNewlines))
    }

    @Test func whatIsWrittenDurablyIsOnTheDiskAndNothingElseIs() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.file(byteCount: 1 << 20)
        let disk = try FileDisk(path: path)
        #expect(disk.geometry.writesDurably)
        guard !disk.isInMemory, try dirtyPages(path) != nil else { return }
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        harness.region.fill(0, count: 32768, with: 7)
        // One run, and several.
        #expect(try harness.perform(.write(offset: 0, isDurable: true), [harness.segment(0, 16384)]) == .done)
        #expect(try dirtyPages(path) == 0)
        let pages = (0..<4).map { harness.segment($0 * 8192, 4096) }
        #expect(try harness.perform(.write(offset: 16384, isDurable: true), pages) == .done)
        #expect(try dirtyPages(path) == 0)
        #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 8192)]) == .done)
        // Whole folios of the page cache, which may be larger than what was written.
        #expect(try (dirtyPages(path) ?? 0) >= 2)
    }

    @Test func scatteredSegmentsKeepTheirOrder() throws {
        let directory = try TemporaryDirectory()
        let harness = try DiskHarness(try FileDisk(path: try directory.file(byteCount: 1 << 20)))
        defer { harness.close() }
        harness.region.fill(0, count: 64 * 4096)
        for page in 0..<8 { harness.region.fill(page * 4096, count: 4096, with: UInt8(page + 1)) }
        // Backwards, so that nothing can be merged, and each second one only a sector long.
        let pages = (0..<8).reversed().map { harness.segment($0 * 4096, $0 % 2 == 0 ? 4096 : 512) }
        #expect(try harness.perform(.write(offset: 0), pages) == .done)
        let (result, back) = try harness.read(4 * 4096 + 4 * 512, at: 0)
        #expect(result == .done)
        var expected: [UInt8] = []
        for page in (0..<8).reversed() { expected += [UInt8](repeating: UInt8(page + 1), count: page % 2 == 0 ? 4096 : 512) }
        expectSame(back, expected)
    }

    @Test func moreVectorsThanTheKernelTakesAtOnce() throws {
        let directory = try TemporaryDirectory()
        let harness = try DiskHarness(try FileDisk(path: try directory.file(byteCount: 4 << 20)), pages: 3000)
        defer { harness.close() }
        // Every other half page: nothing merges. 1500 vectors are more than IOV_MAX.
        var expected: [UInt8] = []
        var segments: [BusSegment] = []
        for page in 0..<1500 {
            harness.region.fill(page * 4096, count: 512, with: UInt8(truncatingIfNeeded: page))
            segments.append(harness.segment(page * 4096, 512))
            expected += [UInt8](repeating: UInt8(truncatingIfNeeded: page), count: 512)
        }
        #expect(try harness.perform(.write(offset: 512), segments) == .done)
        #expect(harness.statistics.continued == 1)
        let (result, back) = try harness.read(1500 * 512, at: 512)
        #expect(result == .done)
        expectSame(back, expected)
    }

    @Test func anAddressThatDoesNotResolveFaultsAndNothingIsTouched() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.file(byteCount: 1 << 20)
        let harness = try DiskHarness(try FileDisk(path: path))
        defer { harness.close() }
        harness.region.fill(0, count: 8192, with: 0xAB)
        let fault = DeviceResult.failed(Errno(EFAULT))
        let bad = [
            BusSegment(address: BusAddress(rawValue: 0), byteCount: 512),
            BusSegment(address: BusAddress(rawValue: 4096), byteCount: 512),
            BusSegment(address: BusAddress(rawValue: .max), byteCount: 512),
            harness.segment(64 * 4096 - 511, 512),
            BusSegment(address: harness.base, byteCount: 0),
            BusSegment(address: harness.base, byteCount: .max),
        ]
        for segment in bad {
            #expect(try harness.perform(.write(offset: 0), [harness.segment(0, 4096), segment]) == fault)
            #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 4096), segment]) == fault)
        }
        expectSame(harness.region.bytes(at: 0, count: 8192), [UInt8](repeating: 0xAB, count: 8192))
        expectSame(try Data(contentsOf: URL(fileURLWithPath: path)), Data(count: 1 << 20))
        #expect(harness.statistics.errors == 12)
    }

    @Test func outOfBoundsIsRefusedAndTheFileDoesNotGrow() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.file(byteCount: 1 << 20)
        let harness = try DiskHarness(try FileDisk(path: path))
        defer { harness.close() }
        let size: UInt64 = 1 << 20
        for offset in [size, size - 512, .max - 511, .max, 1 << 63] {
            let expected = DeviceResult.failed(Errno(EINVAL))
            #expect(try harness.perform(.write(offset: offset), [harness.segment(0, 1024)]) == expected)
            #expect(try harness.perform(.read(offset: offset), [harness.segment(0, 1024)]) == expected)
            #expect(try harness.perform(.discard(offset: offset, byteCount: 1024, secure: false)) == expected)
        }
        #expect(try harness.perform(.discard(offset: 0, byteCount: .max, secure: false)) == .failed(Errno(EINVAL)))
        #expect(try harness.perform(.discard(offset: 0, byteCount: 4096, secure: true)) == .failed(Errno(EOPNOTSUPP)))
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.size] as? UInt64 == size)
    }
}
