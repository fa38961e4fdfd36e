// What goes wrong on real devices, and who gets to know.

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
struct FaultTests {
    @Test func aFileThatShrankIsAnInputOutputError() throws {
        for parent in [NSTemporaryDirectory(), "/dev/shm"] {
            let directory = try TemporaryDirectory(in: parent)
            let path = try directory.file(byteCount: 1 << 20)
            let disk = try FileDisk(path: path)
            let harness = try DiskHarness(disk)
            defer { harness.close() }
            truncate(path, 8192 + 512)
            #expect(try harness.read(4096, at: 65536).0 == .failed(Errno(EIO)))
            // Half there: still one error, nothing reported done.
            #expect(try harness.read(4096, at: 8192).0 == .failed(Errno(EIO)))
            #expect(try harness.read(4096, at: 0).0 == .done)
            #expect(try disk.refreshGeometry().byteCount == 8704)
            #expect(try harness.read(4096, at: 8192).0 == .failed(Errno(EINVAL)))
            truncate(path, 2 << 20)
            #expect(try disk.refreshGeometry().byteCount == 2 << 20)
            #expect(try harness.write([UInt8](repeating: 3, count: 4096), at: (2 << 20) - 4096) == .done)
        }
    }

    @Test(.enabled(if: canUseLoopDevices, "needs root to mount"))
    func noSpaceReachesTheWritesThatNeededItOnly() throws {
        let small = try SmallFileSystem(byteCount: 256 * 1024)
        let path = try small.directory.file(byteCount: 4 << 20)
        let harness = try DiskHarness(try FileDisk(path: path), pages: 256)
        defer { harness.close() }
        #expect(try harness.write([UInt8](repeating: 7, count: 65536), at: 0) == .done)
        // Partly possible: a short write first, then no space.
        #expect(try harness.write([UInt8](repeating: 8, count: 512 * 1024), at: 1 << 20) == .failed(Errno(ENOSPC)))
        #expect(try harness.write([UInt8](repeating: 8, count: 4096), at: 3 << 20) == .failed(Errno(ENOSPC)))
        expectSame(try harness.read(65536, at: 0).1, [UInt8](repeating: 7, count: 65536))
        #expect(try harness.perform(.flush) == .done)
        #expect(try harness.perform(.discard(offset: 1 << 20, byteCount: 1 << 20, secure: false)) == .done)
        #expect(try harness.write([UInt8](repeating: 8, count: 4096), at: 3 << 20) == .done)
    }

    @Test(.enabled(if: canUseLoopDevices, "needs root and loop devices"))
    func aFlushDoesNotHideWritesThatTheDeviceLost() throws {
        let small = try SmallFileSystem(byteCount: 256 * 1024)
        let loop = try LoopDevice(byteCount: 4 << 20, in: small.path)
        let harness = try DiskHarness(try FileDisk(path: loop.path), pages: 256)
        defer { harness.close() }
        // The page cache takes it; the loop device cannot.
        #expect(try harness.write([UInt8](repeating: 8, count: 1 << 20), at: 0) == .done)
        let result = try harness.perform(.flush)
        #expect(result == .failed(Errno(ENOSPC)) || result == .failed(Errno(EIO)))
        let direct = try DiskHarness(try FileDisk(path: loop.path, direct: .required, sharing: .shared), pages: 256)
        defer { direct.close() }
        let lost = try direct.write([UInt8](repeating: 8, count: 1 << 20), at: 2 << 20)
        #expect(lost == .failed(Errno(ENOSPC)) || lost == .failed(Errno(EIO)))
    }

    @Test(.enabled(if: canUseLoopDevices, "needs root and loop devices"))
    func readOnlyDevices() throws {
        let loop = try LoopDevice(byteCount: 1 << 20, readOnly: true, contents: [UInt8](repeating: 5, count: 4096))
        #expect(throws: DeviceError.readOnly(name: loop.path)) { try FileDisk(path: loop.path) }
        let harness = try DiskHarness(try FileDisk(path: loop.path, readOnly: true))
        defer { harness.close() }
        #expect(harness.disk.geometry.isReadOnly && harness.disk.geometry.discard == nil)
        let refused = DeviceResult.failed(Errno(EROFS))
        #expect(try harness.write([UInt8](repeating: 1, count: 512), at: 0) == refused)
        #expect(try harness.perform(.discard(offset: 0, byteCount: 4096, secure: false)) == refused)
        #expect(try harness.perform(.flush) == .done)
        expectSame(try harness.read(4096, at: 0).1, [UInt8](repeating: 5, count: 4096))
        #expect(try Data(contentsOf: URL(fileURLWithPath: loop.backing)).prefix(4096) == Data(repeating: 5, count: 4096))
    }

    @Test(.enabled(if: canUseLoopDevices, "needs root and loop devices"))
    func discardMakesHolesAndTheLoopCanGrow() throws {
        let loop = try LoopDevice(byteCount: 8 << 20)
        let disk = try FileDisk(path: loop.path)
        let limits = try #require(disk.geometry.discard)
        #expect(limits.granularity >= 512 && !limits.secure)
        let harness = try DiskHarness(disk, pages: 256)
        defer { harness.close() }
        for chunk in 0..<8 { #expect(try harness.write([UInt8](repeating: 6, count: 1 << 20), at: UInt64(chunk) << 20) == .done) }
        #expect(try harness.perform(.flush) == .done)
        let before = occupied(loop.backing)
        #expect(before >= 8 << 20)
        #expect(try harness.perform(.discard(offset: 1 << 20, byteCount: 4 << 20, secure: false)) == .done)
        #expect(occupied(loop.backing) <= before - 4 << 20)
        expectSame(try harness.read(4096, at: 0).1, [UInt8](repeating: 6, count: 4096))
        expectSame(try harness.read(4096, at: 5 << 20).1, [UInt8](repeating: 6, count: 4096))
        #expect(try harness.perform(.discard(offset: 0, byteCount: 4096, secure: true)) == .failed(Errno(EOPNOTSUPP)))
        truncate(loop.backing, 16 << 20)
        try command("losetup", "-c", loop.path)
        #expect(try disk.refreshGeometry().byteCount == 16 << 20)
        #expect(try harness.write([UInt8](repeating: 6, count: 4096), at: 12 << 20) == .done)
    }

    @Test(.enabled(if: canUseLoopDevices, "needs root and loop devices"))
    func discardThroughTheHelperThread() throws {
        let loop = try LoopDevice(byteCount: 4 << 20)
        let harness = try DiskHarness(try FileDisk(path: loop.path), pages: 256)
        defer { harness.close() }
        #expect(try harness.write([UInt8](repeating: 6, count: 1 << 20), at: 0) == .done)
        #expect(try harness.perform(.flush) == .done)
        // As on a kernel before 6.12.
        harness.reactor.run { (harness.queue as? FileQueue)?.blockDiscard = .thread }
        let tags = (0..<8).map { harness.begin(.discard(offset: UInt64($0) << 17, byteCount: 1 << 17, secure: false), []) }
        for tag in tags { #expect(try harness.wait(tag) == .done) }
        #expect(occupied(loop.backing) == 0)
    }

    @Test(.enabled(if: canUseLoopDevices, "needs root and loop devices"))
    func whoeverIsThereFirstHasIt() throws {
        let loop = try LoopDevice(byteCount: 1 << 20)
        let directory = try TemporaryDirectory()
        for path in [loop.path, try directory.file(byteCount: 1 << 20)] {
            var first: FileDisk? = try FileDisk(path: path)
            do throws(DeviceError) {
                _ = try FileDisk(path: path)
                Issue.record("opened twice")
            } catch {
                #expect(error.description.hasPrefix("\(path): in use: "))
            }
            _ = try FileDisk(path: path, sharing: .shared)
            withExtendedLifetime(first) {}
            first = nil
            _ = try FileDisk(path: path)
        }
    }

    @Test func memoryDetachedInFlightStaysUntilTheEnd() throws {
        let directory = try TemporaryDirectory()
        let harness = try DiskHarness(try FileDisk(path: try directory.file(byteCount: 1 << 20)))
        defer { harness.close() }
        final class Slot: @unchecked Sendable {
            weak var watched: SharedRegion?
            var wasThereInFlight = false
            var results: [DeviceResult?] = []
        }
        let slot = Slot()
        let owner = harness
        owner.reactor.run {
            guard let region = try? SharedRegion(anonymous: 64 * 4096) else { return }
            slot.watched = region
            let base = owner.bus.attach(region)
            for index in 0..<16 {
                let segment = BusSegment(address: base.advanced(by: UInt64(index) * 8192)!, byteCount: 4096)
                slot.results.append(owner.queue.submit(.read(offset: 0), tag: 1000 + UInt32(index), segments: [segment].span))
            }
            // The frontend dies here: nobody but the device knows the memory any more.
            owner.bus.detach(region)
        }
        slot.wasThereInFlight = slot.results.allSatisfy { $0 == nil }
        #expect(slot.wasThereInFlight)
        for index in 0..<16 { #expect(try harness.wait(1000 + UInt32(index)) == .done) }
        harness.reactor.run {}
        #expect(slot.watched == nil)
        #expect(harness.bus.retiredCount == 0 && harness.bus.flightCount == 0)
    }

    @Test func aQueueClosedInFlightEndsByItself() throws {
        let directory = try TemporaryDirectory()
        do {
            let harness = try DiskHarness(try FileDisk(path: try directory.file(byteCount: 1 << 20)))
            harness.reactor.run {
                for index in 0..<64 {
                    _ = harness.queue.submit(
                        .read(offset: 0), tag: UInt32(index), segments: [harness.segment(index * 4096, 4096)].span)
                }
            }
            harness.close()
            #expect(harness.bus.flightCount == 0)
        }
    }

    @Test func targetsAndTheirErrors() throws {
        #expect(try DeviceTarget("null:1G") == .null(byteCount: 1 << 30))
        #expect(try DeviceTarget("null:512") == .null(byteCount: 512))
        #expect(try DeviceTarget("nbd+unix:///x?socket=/s") == .nbd(uri: "nbd+unix:///x?socket=/s"))
        #expect(try DeviceTarget("/dev/loop0") == .path("/dev/loop0"))
        #expect(try DeviceTarget("./null:1G") == .path("./null:1G"))
        #expect(try DeviceTarget("a:b.img") == .path("a:b.img"))
        for uri in [
            "nbd://localhost", "nbd://", "nbd://[::1]:10809/x", "nbds://user@host:1/x", "nbd+vsock://2:70000/", "NBD://host/x",
            "nbd+unix:///?socket=a%20b", "nbd+unix://?socket=/s&tls-type=x", "nbds+unix:///x?tls-certificates=/c;socket=/s",
        ] { #expect(try DeviceTarget(uri) == .nbd(uri: uri)) }
        for bad in [
            "nbd:/x", "nbd:unix:/x", "nbds:x", "nbd+unix:/x", "nbd+unix:///x", "nbd+unix:///x?socket=", "nbd+unix://x?socket=/s",
            "nbd://x?socket=/s", "nbd://x:y", "nbd://x:0", "nbd://x:65536", "nbd://[::1]x",
            "nbd+unix:///?socket=/\(String(repeating: "s", count: 107))", "C://x",
        ] { #expect(throws: DeviceError.self, "\(bad)") { try DeviceTarget(bad) } }
        for bad in ["", "null:", "null:x", "null:-1", "null:1", "null:99999999999T", "null:1GG", "http://host/x", "null:\u{0661}K"]
        {
            #expect(throws: DeviceError.self, "\(bad)") { try DeviceTarget(bad) }
        }
        func message(_ target: String) -> String {
            do throws(DeviceError) {
                _ = try openBlockDevice(target: target, time: .system)
                return ""
            } catch { return error.description }
        }
        #expect(message("/nonexistent/disk.img") == "/nonexistent/disk.img: cannot open: No such file or directory")
        #expect(message("/dev/null") == "/dev/null: is a character device, not a regular file or a block device")
        #expect(message("/") == "/: is a directory, not a regular file or a block device")
        let directory = try TemporaryDirectory()
        let empty = try directory.file(byteCount: 100)
        #expect(message(empty) == "\(empty): holds 100 bytes, less than one sector")
        let odd = try directory.file(byteCount: 1300)
        #expect(
            message(odd) == "\(odd): holds 1300 bytes, not whole sectors of 512: the last 276 could not be reached; "
                + "pad it (truncate -s %512)")
    }

    @Test("the size of an open disk may become anything; its whole sectors go on, and the rest is told")
    func anOddSizeLater() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.file(byteCount: 8192)
        let disk = try FileDisk(path: path, readOnly: false)
        for (size, sectors, rest) in [(9000, 17, 296), (8704, 17, 0), (100, 0, 100)] as [(Int, UInt64, UInt64)] {
            #expect(truncate(path, off_t(size)) == 0)
            let geometry = try disk.refreshGeometry()
            #expect(geometry.byteCount == sectors * 512 && geometry.partSector == rest, "\(size)")
        }
    }

    /// A guest that writes a qcow2 header to its raw disk gets a raw disk back (attacks.md A32).
    @Test func theFormatIsNeverProbed() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.file(byteCount: 1 << 20)
        let header: [UInt8] = Array("QFI".utf8) + [0xFB, 0, 0, 0, 3] + [UInt8](repeating: 0, count: 504)
        do {
            let harness = try DiskHarness(try openBlockDevice(target: path, time: .system))
            defer { harness.close() }
            #expect(try harness.write(header, at: 0) == .done)
        }
        let harness = try DiskHarness(try openBlockDevice(target: path, time: .system))
        defer { harness.close() }
        #expect(harness.disk.geometry.byteCount == 1 << 20)
        #expect(try harness.read(512, at: 0).1 == header)
    }
}
