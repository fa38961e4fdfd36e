// Ranges that become zero: by whatever way the disk has, exactly as far as they were asked to.

@testable import BlockDevices
import DMA
import Foundation
import Glibc
@testable import LinuxSystem
import SharedMemory
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(2)))
struct ZeroesTests {
    /// Fills a disk of `byteCount` bytes with sevens.
    private func fill(_ harness: DiskHarness, _ byteCount: Int) throws {
        for start in stride(from: 0, to: byteCount, by: 1 << 20) {
            #expect(try harness.write([UInt8](repeating: 7, count: min(1 << 20, byteCount - start)), at: UInt64(start)) == .done)
        }
        #expect(try harness.perform(.flush) == .done)
    }

    /// That the file has sevens but in `zero`.
    private func check(_ path: String, zero: [Range<Int>], _ location: SourceLocation = #_sourceLocation) throws {
        let bytes = try Descriptor.open(path, O_RDONLY).readToEnd()
        var expected = [UInt8](repeating: 7, count: bytes.count)
        for range in zero { expected.replaceSubrange(range, with: repeatElement(0, count: range.count)) }
        if bytes != expected, let wrong = bytes.indices.first(where: { bytes[$0] != expected[$0] }) {
            Issue.record("byte \(wrong) is \(bytes[wrong])", sourceLocation: location)
        }
    }

    private func zeroes(_ range: Range<Int>, mayUnmap: Bool) -> DeviceOperation {
        .writeZeroes(offset: UInt64(range.lowerBound), byteCount: UInt64(range.count), mayUnmap: mayUnmap)
    }

    /// Leaves a queue only the way that every disk has.
    private func writeOnly(_ harness: DiskHarness) {
        harness.reactor.run {
            (harness.queue as? FileQueue)?.zeroMethods.refused(.hole)
            (harness.queue as? FileQueue)?.zeroMethods.refused(.range)
        }
    }

    @Test("a file's range becomes zero, and keeps its room unless it may give it back", arguments: ["/var/tmp", "/dev/shm"])
    func file(parent: String) throws {
        let directory = try TemporaryDirectory(in: parent)
        let path = try directory.file(byteCount: 4 << 20)
        let disk = try FileDisk(path: path)
        let harness = try DiskHarness(disk, pages: 256)
        defer { harness.close() }
        try fill(harness, 4 << 20)
        let before = occupied(path)
        let odd = (1 << 20) + 512..<(3 << 20) + 1536
        #expect(try harness.perform(zeroes(odd, mayUnmap: false)) == .done)
        try check(path, zero: [odd])
        #expect(occupied(path) >= before)
        #expect(try harness.perform(zeroes(odd, mayUnmap: true)) == .done)
        try check(path, zero: [odd])
        if disk.geometry.zeroes == .canUnmap { #expect(occupied(path) <= before - 1 << 20) }
        // A file system in memory has no way but to write them where they keep their room.
        let hasRanges = harness.reactor.run { (harness.queue as? FileQueue)?.zeroMethods.hasRanges }
        if parent == "/dev/shm" { #expect(hasRanges == false && disk.geometry.zeroes == .canUnmap) }
        #expect(harness.statistics.zeroes == 2 && harness.statistics.errors == 0)
    }

    @Test("where nothing else is known zeroes are written, in pieces and no further", arguments: [DirectIO.never, .preferred])
    func written(direct: DirectIO) throws {
        let directory = try TemporaryDirectory(in: "/var/tmp")
        let path = try directory.file(byteCount: 4 << 20)
        let harness = try DiskHarness(try FileDisk(path: path, direct: direct), pages: 256)
        defer { harness.close() }
        try fill(harness, 4 << 20)
        writeOnly(harness)
        let ranges = [4096..<(3 << 20) + 512, 0..<512, (4 << 20) - 1024..<4 << 20]
        for range in ranges { #expect(try harness.perform(zeroes(range, mayUnmap: true)) == .done) }
        #expect(try harness.perform(.flush) == .done)
        try check(path, zero: ranges)
    }

    @Test("a long write of zeroes keeps nobody waiting, and ends early when it is cancelled")
    func longOnes() throws {
        let directory = try TemporaryDirectory(in: "/var/tmp")
        let harness = try DiskHarness(try FileDisk(path: try directory.file(byteCount: 256 << 20)))
        defer { harness.close() }
        writeOnly(harness)
        final class Seen: @unchecked Sendable {
            var statistics = DeviceStatistics()
            var isCancelled = false
        }
        let seen = Seen()
        let all = zeroes(0..<256 << 20, mayUnmap: false)
        harness.reactor.run {
            // It has a thousand pieces, and the read waits for one or two of them.
            let nothing: [BusSegment] = []
            _ = harness.queue.submit(all, tag: 1000, segments: nothing.span)
            _ = harness.queue.submit(.read(offset: 0), tag: 1001, segments: [harness.segment(0, 4096)].span)
            harness.whenCompleted = { tag in
                guard tag == 1001, let queue = harness.queue as? FileQueue else { return }
                seen.statistics = queue.statistics
                queue.cancelAll()
                // Its next piece may have been written before the kernel heard of that.
                let written = FileRequest()
                written.zeroMethod = .writes
                if case .ended(.failed(.canceled)) = queue.advanceZeroes(written, 1 << 20, 4096) { seen.isCancelled = true }
            }
        }
        #expect(try harness.wait(1001, seconds: 60) == .done)
        #expect(try harness.wait(1000, seconds: 60) == .failed(.canceled))
        #expect(seen.statistics.zeroes == 0 && seen.statistics.reads == 1 && seen.isCancelled)
        #expect(try harness.perform(zeroes(0..<512, mayUnmap: false)) == .done)
    }

    @Test("zeroes past the end, on a disk that is read-only, or of nothing are refused, and no file grows")
    func refusals() throws {
        let directory = try TemporaryDirectory(in: "/var/tmp")
        let path = try directory.file(byteCount: 1 << 20)
        let size: UInt64 = 1 << 20
        do {
            let harness = try DiskHarness(try FileDisk(path: path))
            defer { harness.close() }
            for (offset, count) in [(size, 512), (size - 512, 1024), (.max - 511, 1024), (0, .max), (512, .max - 511), (0, 0)]
                as [(UInt64, UInt64)]
            {
                let asked = DeviceOperation.writeZeroes(offset: offset, byteCount: count, mayUnmap: false)
                #expect(try harness.perform(asked) == .failed(.invalidArgument), "\(asked)")
            }
            // Somebody makes the file shorter than the disk is known to be: neither way makes it longer again.
            truncate(path, 8192)
            for mayUnmap in [false, true] {
                #expect(try harness.perform(zeroes(65536..<131072, mayUnmap: mayUnmap)) == .done)
            }
            #expect(try FileManager.default.attributesOfItem(atPath: path)[.size] as? UInt64 == 8192)
        }
        let disk = try FileDisk(path: path, readOnly: true)
        #expect(disk.geometry.zeroes == nil)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        #expect(try harness.perform(zeroes(0..<512, mayUnmap: true)) == .failed(.readOnlyFileSystem))
    }

    @Test("no room for zeroes is that request's error", .enabled(if: canUseLoopDevices, "needs root to mount"))
    func noSpace() throws {
        let small = try SmallFileSystem(byteCount: 512 * 1024)
        let harness = try DiskHarness(try FileDisk(path: try small.directory.file(byteCount: 4 << 20)))
        defer { harness.close() }
        #expect(try harness.perform(zeroes(0..<2 << 20, mayUnmap: false)) == .failed(Errno(ENOSPC)))
        #expect(try harness.perform(zeroes(0..<2 << 20, mayUnmap: true)) == .done)
        #expect(try harness.perform(zeroes(0..<4096, mayUnmap: false)) == .done)
    }

    @Test(
        "a block device's range becomes zero, for whoever reads it", .enabled(if: canUseLoopDevices, "needs root and loop devices"))
    func blockDevice() throws {
        for sectorSize in [512, 4096] {
            let loop = try LoopDevice(byteCount: 4 << 20, sectorSize: sectorSize)
            let disk = try FileDisk(path: loop.path)
            #expect(disk.geometry.zeroes == .canUnmap)
            let harness = try DiskHarness(disk, pages: 256)
            defer { harness.close() }
            try fill(harness, 4 << 20)
            let before = occupied(loop.backing)
            let (first, second) = (4096..<(1 << 20) + 8192, 2 << 20..<3 << 20)
            #expect(try harness.perform(zeroes(first, mayUnmap: false)) == .done)
            #expect(occupied(loop.backing) >= before)
            #expect(try harness.perform(zeroes(second, mayUnmap: true)) == .done)
            // What was read before is read anew.
            expectSame(try harness.read(8192, at: 0).1, [UInt8](repeating: 7, count: 4096) + [UInt8](repeating: 0, count: 4096))
            #expect(try harness.perform(.flush) == .done)
            try check(loop.path, zero: [first, second])
            try check(loop.backing, zero: [first, second])
            let hasWritten = harness.reactor.run { (harness.queue as? FileQueue).map { $0.zeroMethods.zeroes != nil } }
            #expect(hasWritten == false, "they were written one by one")
            #expect(try harness.perform(zeroes(0..<4 << 20, mayUnmap: false)) == .done)
            writeOnly(harness)
            #expect(try harness.perform(zeroes(0..<4096, mayUnmap: false)) == .done)
        }
    }

    @Test("an NBD server is asked for zeroes, and told where there may be no hole; one that has no such command is not asked")
    func nbd() throws {
        let scratch = try TemporaryDirectory()
        let log = scratch.path + "/log"
        let server = try NBDServer(["--filter=log", "memory", "4G", "logfile=\(log)"])
        let disk = try NBDDisk(uri: server.uri, time: .system)
        #expect(disk.geometry.zeroes != nil)
        let harness = try DiskHarness(disk, pages: 256)
        defer { harness.close() }
        #expect(try harness.write([UInt8](repeating: 7, count: 8192), at: 0) == .done)
        #expect(try harness.perform(zeroes(512..<4096, mayUnmap: false)) == .done)
        #expect(try harness.perform(zeroes(4096..<4608, mayUnmap: true)) == .done)
        let expected: [UInt8] = (0..<8192).map { (512..<4608).contains($0) ? 0 : 7 }
        expectSame(try harness.read(8192, at: 0).1, expected)
        // More than the protocol's lengths hold.
        #expect(try harness.perform(zeroes(0..<4 << 30, mayUnmap: true)) == .done)
        expectSame(try harness.read(8192, at: 0).1, [UInt8](repeating: 0, count: 8192))
        let lines = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n").filter {
            $0.contains(" Zero ") && $0.contains("offset=")
        }
        #expect(lines.count == 6, "\(lines)")
        #expect(lines.first?.contains("offset=0x200 count=0xe00 trim=0") == true, "\(lines)")
        #expect(lines.dropFirst().allSatisfy { $0.contains("trim=1") }, "\(lines)")
        let poorer = try NBDServer(["--filter=nozero", "memory", "1M"])
        let without = try NBDDisk(uri: poorer.uri, time: .system)
        #expect(without.geometry.zeroes == nil && without.geometry.discard != nil)
    }

    @Test("a null disk takes zeroes as it takes writes, and refuses what is not on it")
    func null() throws {
        let harness = try DiskHarness(NullDisk(byteCount: 1 << 20))
        defer { harness.close() }
        #expect(try harness.perform(zeroes(0..<1 << 20, mayUnmap: false)) == .done)
        #expect(try harness.perform(zeroes(512..<(1 << 20) + 512, mayUnmap: false)) == .failed(.invalidArgument))
        #expect(NullDisk(byteCount: 1 << 20, isReadOnly: true).geometry.zeroes == nil)
    }
}
