@testable import BlockDevices
import DMA
import Foundation
import Glibc
@testable import LinuxSystem
import Testing
import TestSupport

@Suite(.serialized, .timeLimit(.minutes(1)))
struct NBDDiskTests {
    @Test func whatIsWrittenIsReadAndTheGeometryIsTheServers() throws {
        let server = try NBDServer(["memory", "1M"])
        let disk = try openBlockDevice(target: server.uri, time: .system)
        #expect(disk.geometry.byteCount == 1 << 20)
        #expect(!disk.geometry.isReadOnly && disk.geometry.canFlush && disk.geometry.discard != nil)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        let bytes = (0..<65536).map { UInt8(truncatingIfNeeded: $0 / 512 &+ 1) }
        #expect(try harness.write(bytes, at: 8192) == .done)
        #expect(try harness.perform(.flush) == .done)
        expectSame(try harness.read(65536, at: 8192).1, bytes)
        #expect(try harness.perform(.discard(offset: 8192, byteCount: 65536, secure: false)) == .done)
        expectSame(try harness.read(65536, at: 8192).1, [UInt8](repeating: 0, count: 65536))
    }

    @Test func manyInFlightAndScattered() throws {
        let server = try NBDServer(["memory", "4M"])
        let harness = try DiskHarness(try NBDDisk(uri: server.uri, time: .system), pages: 256, depth: 8)
        defer { harness.close() }
        for page in 0..<256 { harness.region.fill(page * 4096, count: 4096, with: UInt8(page)) }
        let tags = (0..<64).map { index in
            harness.begin(
                .write(offset: UInt64(index) * 8192),
                [harness.segment(index * 8192 + 4096, 4096), harness.segment(index * 8192, 4096)])
        }
        for tag in tags { #expect(try harness.wait(tag) == .done) }
        harness.region.fill(0, count: 256 * 4096)
        #expect(try harness.perform(.read(offset: 0), [harness.segment(0, 128 * 4096)]) == .done)
        for page in 0..<128 { #expect(harness.region.load(page * 4096, as: UInt8.self) == UInt8(page ^ 1)) }
        #expect(harness.statistics.bounced == 64)
    }

    @Test func theServersErrorReachesItsRequest() throws {
        let server = try NBDServer(["--filter=error", "memory", "1M", "error-pread=ENOSPC", "error-pread-rate=100%"])
        let harness = try DiskHarness(try NBDDisk(uri: server.uri, time: .system))
        defer { harness.close() }
        #expect(try harness.write([UInt8](repeating: 1, count: 512), at: 0) == .done)
        #expect(try harness.read(512, at: 0).0 == .failed(Errno(ENOSPC)))
        #expect(try harness.perform(.flush) == .done)
        #expect(harness.statistics.errors == 1)
    }

    @Test func readOnlyAndMinimumBlocks() throws {
        let server = try NBDServer(["-r", "memory", "1M"])
        #expect(throws: DeviceError.readOnly(name: server.uri)) { try NBDDisk(uri: server.uri, time: .system) }
        let disk = try NBDDisk(uri: server.uri, readOnly: true, time: .system)
        #expect(disk.geometry.isReadOnly && disk.geometry.discard == nil && !disk.geometry.canFlush)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        #expect(try harness.write([UInt8](repeating: 1, count: 512), at: 0) == .failed(Errno(EROFS)))
        #expect(try harness.perform(.flush) == .done)
        let coarse = try NBDServer([
            "--filter=blocksize-policy", "memory", "1M", "blocksize-minimum=4096", "blocksize-error-policy=error",
        ])
        #expect(try NBDDisk(uri: coarse.uri, time: .system).geometry.logicalSectorSize == 4096)
    }

    @Test func cancellingEndsSlowRequestsSoon() throws {
        let server = try NBDServer(["--filter=delay", "memory", "1M", "delay-read=60"])
        let harness = try DiskHarness(try NBDDisk(uri: server.uri, time: .system))
        defer { harness.close() }
        let tag = harness.begin(.read(offset: 0), [harness.segment(0, 512)])
        usleep(50_000)
        let start = Date()
        harness.reactor.run { harness.queue.cancelAll() }
        #expect(try harness.wait(tag, seconds: 5) == .failed(Errno(ECANCELED)))
        #expect(Date().timeIntervalSince(start) < 1)
    }

    @Test("an export that ends in a part of a sector is refused by name, whatever its sectors are")
    func anOddExport() throws {
        for (arguments, sector) in [
            (["memory", "10001"], 512),
            (["--filter=blocksize-policy", "memory", "10240", "blocksize-minimum=4096", "blocksize-preferred=4096"], 4096),
        ] {
            let server = try NBDServer(arguments)
            do throws(DeviceError) {
                _ = try NBDDisk(uri: server.uri, time: .system)
                Issue.record("\(arguments) was opened")
            } catch {
                #expect(error.description.contains("not whole sectors of \(sector): the last "), "\(error)")
            }
        }
    }

    @Test func whatCannotBeReachedSaysWhy() throws {
        let uri = "nbd+unix:///?socket=/nonexistent/socket"
        do throws(DeviceError) {
            _ = try NBDDisk(uri: uri, time: .system)
            Issue.record("connected")
        } catch {
            #expect(error.description.hasPrefix(uri + ": "))
            #expect(error.description.contains("No such file or directory"))
        }
    }
}
