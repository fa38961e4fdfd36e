@testable import BlockDevices
import DMA
import Foundation
import Glibc
@testable import LinuxSystem
import Testing
import TestSupport

/// Servers that go away and come back.
@Suite(.serialized, .timeLimit(.minutes(2)))
struct NBDReconnectTests {
    /// Short pauses, so that nobody waits long.
    static func quick(delayMilliseconds: UInt64 = 20_000) -> NBDReconnect {
        NBDReconnect(
            delayMilliseconds: delayMilliseconds, firstPauseMilliseconds: 5, longestPauseMilliseconds: 50,
            timeoutMilliseconds: 2000)
    }

    static func open(
        _ uri: String, _ reconnect: NBDReconnect = quick(), readOnly: Bool = false
    ) throws -> (NBDDisk, LineCollector) {
        let log = LineCollector()
        return (
            try NBDDisk(uri: uri, readOnly: readOnly, reconnect: reconnect, time: .system, log: { log.add($0) }), log
        )
    }

    /// What the log says, without the disk's name, the reason and what was not flushed; every number is a 9.
    static func told(_ log: LineCollector, _ uri: String) -> [String] {
        log.all.map { line in
            line.replacingOccurrences(of: uri + ": ", with: "").replacing(/[0-9]+(\.[0-9])?/, with: "9").replacing(
                /\ \(.*\)/, with: ""
            )
            .replacing(/; 9 writes since .*/, with: "")
        }
    }

    static let lost = "the server is away; requests wait for it, 9 s at most"
    static let back = "the server is back after 9 s; 9 requests waited"

    @Test(
        "what a dying server did not answer is asked again, and the log has two lines",
        arguments: [
            ServerManner.hangUpAt(3), .halfAnAnswerAt(3), .garbageAt(3), .shuttingDownAt(3),
        ])
    func deathUnderLoad(manner: ServerManner) throws {
        let server = try ScriptedNBDServer(manner)
        let (disk, log) = try Self.open(server.uri)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        for page in 0..<16 { harness.region.fill(page * 4096, count: 4096, with: UInt8(page + 1)) }
        let writes = (0..<8).map { harness.begin(.write(offset: UInt64($0) * 4096), [harness.segment($0 * 4096, 4096)]) }
        let scattered = harness.begin(
            .write(offset: 8 * 4096), [harness.segment(8 * 4096, 4096), harness.segment(10 * 4096, 4096)])
        let trim = harness.begin(.discard(offset: 65536, byteCount: 4096, secure: false), [])
        let zeroes = harness.begin(.writeZeroes(offset: 131072, byteCount: 4096, mayUnmap: false), [])
        let flush = harness.begin(.flush, [])
        let read = harness.begin(.read(offset: 0), [harness.segment(20 * 4096, 4096)])
        for tag in writes + [scattered, trim, zeroes, flush, read] { #expect(try harness.wait(tag) == .done) }
        let expected = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11].flatMap { [UInt8](repeating: $0, count: 4096) }
        expectSame(Array(server.memory[..<expected.count]), expected)
        #expect(harness.bus.flightCount == 0)
        #expect(server.accepted == 2)
        let again = server.commands.filter { $0.connection == 2 }
        #expect(again.map(\.kind).suffix(4) == [.trim, .zeroes, .flush, .read], "\(again)")
        // What was answered before the end may have been heard or not.
        let offsets = again.filter { $0.kind == .write }.map(\.offset)
        #expect((7...9).contains(offsets.count) && offsets == (9 - offsets.count..<9).map { UInt64($0) * 4096 }, "\(again)")
        #expect(Self.told(log, server.uri).last?.hasPrefix(Self.back) == true && log.all.count == 2, "\(log.all)")
        #expect(log.all.first?.contains("the server is away (") == true)
    }

    @Test("a server that comes back badly is tried again until it comes back well")
    func badHandshakes() throws {
        let server = try ScriptedNBDServer()
        let (disk, log) = try Self.open(server.uri)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        server.next(.hangUpAtOnce, .greetWithGarbage, .hangUpAt(1), .silent)
        server.hangUp()
        #expect(try harness.write([UInt8](repeating: 7, count: 512), at: 512) == .done)
        #expect(server.accepted == 6 && server.memory[512] == 7)
        #expect(Self.told(log, server.uri) == [Self.lost, Self.back], "\(log.all)")
    }

    @Test("what was answered and not flushed when the server went is told")
    func unflushed() throws {
        let server = try ScriptedNBDServer()
        let (disk, log) = try Self.open(server.uri)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        let bytes = [UInt8](repeating: 7, count: 512)
        for _ in 0..<3 { #expect(try harness.write(bytes, at: 0) == .done) }
        #expect(try harness.perform(.flush) == .done)
        for _ in 0..<2 { #expect(try harness.write(bytes, at: 0) == .done) }
        server.hangUp()
        #expect(try harness.perform(.flush) == .done)
        #expect(log.all.last?.hasSuffix("; 2 writes since the last flush are as safe as it kept them") == true, "\(log.all)")
        server.hangUp()
        #expect(try harness.perform(.flush) == .done)
        #expect(log.all.last?.hasSuffix(" requests waited") == true, "\(log.all)")
    }

    @Test("a durable write is asked for where the server knows it, and needs no flush", arguments: [false, true])
    func durableWrites(isKnown: Bool) throws {
        let server = try ScriptedNBDServer()
        // NBD_FLAG_SEND_FUA.
        if isKnown { server.export.flags |= 1 << 3 }
        let (disk, log) = try Self.open(server.uri)
        #expect(disk.geometry.writesDurably == isKnown)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        let durable = try harness.perform(.write(offset: 512, isDurable: true), [harness.segment(0, 512)])
        #expect(durable == (isKnown ? .done : .failed(.notSupported)))
        #expect(try harness.write([UInt8](repeating: 7, count: 512), at: 0) == .done)
        #expect(server.commands.map(\.isDurable) == (isKnown ? [true, false] : [false]))
        // One write is told to be unsafe, not two.
        server.hangUp()
        #expect(try harness.perform(.flush) == .done)
        #expect(log.all.last?.hasSuffix("; 1 writes since the last flush are as safe as it kept them") == true, "\(log.all)")
    }

    @Test("an error is an answer: nothing is asked again, and nothing reconnects")
    func errorsAreAnswers() throws {
        let server = try NBDServer(["--filter=error", "memory", "1M", "error-pwrite=ENOSPC", "error-pwrite-rate=100%"])
        let (disk, log) = try Self.open(server.uri)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        for _ in 0..<5 { #expect(try harness.write([UInt8](repeating: 1, count: 512), at: 0) == .failed(Errno(ENOSPC))) }
        #expect(log.all == [])
    }

    @Test("nbdkit killed and started again under load: not one error")
    func nbdkit() throws {
        let directory = try TemporaryDirectory()
        let file = try directory.file(byteCount: 1 << 20)
        let server = try NBDServer(["--filter=delay", "file", file, "delay-read=30", "delay-write=10ms"])
        let (disk, log) = try Self.open(server.uri)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        #expect(try harness.write([UInt8](repeating: 9, count: 512), at: 0) == .done)
        let pending = (0..<4).map { harness.begin(.read(offset: UInt64($0) * 512), [harness.segment($0 * 4096, 512)]) }
        server.kill()
        let held = harness.begin(.write(offset: 4096), [harness.segment(65536, 512)])
        #expect(eventually { log.all.count == 1 }, "\(log.all)")
        server.arguments = ["--filter=delay", "file", file, "delay-write=10ms"]
        try server.start()
        for tag in pending + [held] { #expect(try harness.wait(tag) == .done) }
        #expect(harness.bus.flightCount == 0)
    }

    @Test("a server that went in the midst of many requests: those after the first wait as well")
    func goneAmongMany() throws {
        let directory = try TemporaryDirectory()
        let server = try NBDServer(["file", try directory.file(byteCount: 1 << 20)])
        let (disk, _) = try Self.open(server.uri)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        #expect(try harness.write([UInt8](repeating: 9, count: 512), at: 0) == .done)
        // Before the queue's thread has looked at its socket once more.
        nonisolated(unsafe) let mortal = server
        let tags = harness.reactor.run {
            mortal.kill()
            return (0..<8).map { harness.begin(.write(offset: UInt64($0) * 4096), [harness.segment($0 * 4096, 4096)]) }
        }
        try server.start()
        for tag in tags { #expect(try harness.wait(tag) == .done) }
        #expect(harness.bus.flightCount == 0)
    }

    @Test("qemu-nbd, which serves one client at a time, killed and started again")
    func qemu() throws {
        let directory = try TemporaryDirectory()
        let image = directory.path + "/a.qcow2"
        try command("qemu-img", "create", "-q", "-f", "qcow2", image, "4M")
        let socket = directory.path + "/q.sock"
        let server = Processes(socket, ["qemu-nbd", "-f", "qcow2", "-t", "-k", socket, image])
        try server.start()
        let (disk, log) = try Self.open("nbd+unix:///?socket=\(socket)")
        #expect(disk.queueLimit == 1)
        _ = try disk.refreshGeometry()
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        for round in 0..<3 {
            #expect(try harness.write([UInt8](repeating: UInt8(round + 1), count: 4096), at: 8192) == .done)
            #expect(try harness.perform(.flush) == .done)
            server.kill()
            let held = harness.begin(.read(offset: 8192), [harness.segment(0, 4096)])
            try server.start()
            #expect(try harness.wait(held) == .done)
            #expect(harness.region.bytes(at: 0, count: 1) == [UInt8(round + 1)])
        }
        #expect(log.all.count == 6, "\(log.all)")
    }

    @Test("after the limit requests fail, new ones at once; the server is tried on and used when it is back")
    func theLimit() throws {
        let server = try NBDServer(["memory", "1M"])
        let (disk, log) = try Self.open(server.uri, Self.quick(delayMilliseconds: 300))
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        server.kill()
        let start = monotonicMilliseconds()
        #expect(try harness.wait(harness.begin(.read(offset: 0), [harness.segment(0, 512)]), seconds: 10) == .failed(Errno(EIO)))
        #expect(monotonicMilliseconds() - start >= 250)
        #expect(eventually { log.all.count == 2 })
        let late = monotonicMilliseconds()
        #expect(try harness.perform(.flush) == .failed(Errno(EIO)))
        #expect(monotonicMilliseconds() - late < 250)
        try server.start()
        #expect(try eventually(10_000) { try harness.perform(.flush) == .done })
        #expect(
            Self.told(log, server.uri) == [
                Self.lost, "the server is not back after 9 s: requests fail until it is",
                "the server is back after 9 s; 9 requests failed or waited",
            ], "\(log.all)")
    }

    @Test("with a limit of 0 nothing waits") func noWaiting() throws {
        let server = try ScriptedNBDServer(.hangUpAt(1))
        let (disk, log) = try Self.open(server.uri, Self.quick(delayMilliseconds: 0))
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        #expect(try harness.wait(harness.begin(.read(offset: 0), [harness.segment(0, 512)]), seconds: 5) == .failed(Errno(EIO)))
        #expect(try eventually(5000) { try harness.perform(.flush) == .done })
        #expect(log.all.first?.hasSuffix("requests fail until it is back") == true && log.all.count == 2, "\(log.all)")
    }

    @Test("a server that falls over at each request is as good as none, and is not run against without pause")
    func fallsOverAlways() throws {
        let falling = [ServerManner](repeating: .hangUpAt(1), count: 1000)
        let server = try ScriptedNBDServer()
        server.script = falling
        server.hangUp()
        let (disk, log) = try Self.open(server.uri, Self.quick(delayMilliseconds: 500))
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        #expect(try harness.wait(harness.begin(.read(offset: 0), [harness.segment(0, 512)]), seconds: 10) == .failed(Errno(EIO)))
        #expect((4...40).contains(server.accepted), "\(server.accepted) attempts")
        #expect(eventually { log.all.count >= 2 })
        #expect(log.all[1].contains("not back after"), "\(log.all)")
    }

    @Test(
        "another disk in its place is not used, whatever differs; the right one is",
        arguments: [
            "holds 524288 bytes, not 1048576", "can only be read", "sectors of 4096 bytes", "cannot flush",
        ])
    func anotherDisk(difference: String) throws {
        let server = try ScriptedNBDServer()
        let (disk, log) = try Self.open(server.uri)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        let right = server.export
        var wrong = right
        if difference.contains("holds") { wrong.byteCount = 524_288 }
        if difference.contains("read") { wrong.isReadOnly = true }
        if difference.contains("sectors") { wrong.minimumBlock = 4096 }
        if difference.contains("flush") { wrong.flags &= ~4 }
        server.export = wrong
        server.hangUp()
        let held = harness.begin(.write(offset: 0), [harness.segment(0, 512)])
        #expect(eventually { server.accepted >= 4 }, "it is not tried on")
        #expect(server.commands.isEmpty, "the wrong disk was written: \(server.commands)")
        #expect(log.all.count == 2 && log.all[1].contains("another disk is in its place, and not used: it "), "\(log.all)")
        #expect(log.all[1].contains(difference), "\(log.all)")
        server.export = right
        #expect(try harness.wait(held) == .done)
        #expect(eventually { log.all.count == 3 })
    }

    @Test("a disk that has grown while its server was away is used, and has its new size")
    func grown() throws {
        let server = try ScriptedNBDServer()
        let (disk, _) = try Self.open(server.uri)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        server.export.byteCount = 2 << 20
        server.hangUp()
        #expect(try harness.perform(.flush) == .done)
        #expect(disk.geometry.byteCount == 2 << 20)
        #expect(try harness.write([UInt8](repeating: 3, count: 512), at: (2 << 20) - 512) == .done)
    }

    @Test(
        "a server that can discard no more, or make nothing zero: that is what is told",
        arguments: [
            (5 as UInt16, DeviceOperation.discard(offset: 0, byteCount: 4096, secure: false)),
            (6, .writeZeroes(offset: 0, byteCount: 4096, mayUnmap: true)),
        ])
    func commandIsLost(bit: UInt16, operation: DeviceOperation) throws {
        let server = try ScriptedNBDServer()
        let (disk, _) = try Self.open(server.uri)
        let harness = try DiskHarness(disk)
        defer { harness.close() }
        server.export.flags &= ~(1 << bit)
        server.hangUp()
        let held = harness.begin(operation, [])
        #expect(try harness.wait(held) == .failed(Errno(EOPNOTSUPP)))
        #expect(try harness.perform(.flush) == .done)
        #expect(try harness.perform(operation) == .failed(Errno(EOPNOTSUPP)))
    }

    @Test("whoever goes does not wait for a server that is away", arguments: [ServerManner.hangUpAtOnce, .silent])
    func going(manner: ServerManner) throws {
        let server = try ScriptedNBDServer()
        let (disk, _) = try Self.open(server.uri)
        let harness = try DiskHarness(disk)
        server.script = [ServerManner](repeating: manner, count: 1000)
        server.hangUp()
        let held = (0..<4).map { harness.begin(.read(offset: UInt64($0) * 512), [harness.segment($0 * 4096, 512)]) }
        let start = monotonicMilliseconds()
        _ = try disk.refreshGeometry()
        harness.reactor.run { harness.queue.endWaiting() }
        for tag in held { #expect(try harness.wait(tag, seconds: 5) == .failed(Errno(ECANCELED))) }
        #expect(try harness.perform(.flush) == .failed(Errno(ECANCELED)))
        #expect(harness.bus.flightCount == 0)
        harness.close()
        #expect(monotonicMilliseconds() - start < 1000)
    }

    @Test("one connection of two is lost: the other serves on, and the log has two lines")
    func oneOfTwo() throws {
        let server = try ScriptedNBDServer(.serve, .hangUpAt(1))
        let (disk, log) = try Self.open(server.uri)
        let first = try DiskHarness(disk)
        let second = try DiskHarness(disk)
        defer {
            first.close()
            second.close()
        }
        #expect(try first.perform(.flush) == .done)
        #expect(eventually { server.accepted == 2 })
        server.next(.hangUpAtOnce, .hangUpAtOnce)
        let lost = second.begin(.flush, [])
        #expect(try first.write([UInt8](repeating: 1, count: 512), at: 0) == .done)
        #expect(try second.wait(lost) == .done)
        #expect(server.accepted == 5)
        #expect(Self.told(log, server.uri) == [Self.lost, Self.back], "\(log.all)")
        #expect(server.commands.filter { $0.connection == 1 }.count == 2)
    }

    @Test("both connections are lost: once gone, once back")
    func bothOfTwo() throws {
        let server = try ScriptedNBDServer()
        let (disk, log) = try Self.open(server.uri)
        let pair = [try DiskHarness(disk), try DiskHarness(disk)]
        defer { for harness in pair { harness.close() } }
        for harness in pair { #expect(try harness.perform(.flush) == .done) }
        server.hangUp()
        for harness in pair { #expect(try harness.perform(.flush) == .done) }
        #expect(eventually { log.all.count == 2 }, "\(log.all)")
        #expect(log.all.last?.contains("back after") == true)
    }

    @Test("a size is asked for beside the caller, who never waits; where one client is served, not at all")
    func sizes() throws {
        let server = try ScriptedNBDServer()
        let (disk, log) = try Self.open(server.uri)
        server.export.byteCount = 2 << 20
        #expect(try eventually { try disk.refreshGeometry().byteCount == 2 << 20 })
        server.next(.silent)
        let start = monotonicMilliseconds()
        for _ in 0..<10 { _ = try disk.refreshGeometry() }
        #expect(monotonicMilliseconds() - start < 500)
        // One that has shrunk is said, once, and not followed.
        server.export.byteCount = 1 << 20
        #expect(
            try eventually(5000) {
                _ = try disk.refreshGeometry()
                return log.all.count == 1
            })
        #expect(disk.geometry.byteCount == 2 << 20)
        #expect(log.all.first?.contains("holds 1048576 bytes, not 2097152") == true, "\(log.all)")
        let single = try ScriptedNBDServer()
        single.export.flags &= ~(1 << 8)
        let (only, _) = try Self.open(single.uri)
        #expect(only.queueLimit == 1)
        for _ in 0..<3 { _ = try only.refreshGeometry() }
        #expect(single.accepted == 1)
    }

    @Test("a connection is kept for the next queue: there are servers that end with their client")
    func keptConnection() throws {
        let directory = try TemporaryDirectory()
        let image = try directory.file(byteCount: 1 << 20)
        let socket = directory.path + "/q.sock"
        // Without --persistent.
        let server = Processes(socket, ["qemu-nbd", "-f", "raw", "-k", socket, image])
        try server.start()
        let (disk, log) = try Self.open("nbd+unix:///?socket=\(socket)")
        for _ in 0..<3 {
            let harness = try DiskHarness(disk)
            #expect(try harness.write([UInt8](repeating: 1, count: 512), at: 0) == .done)
            harness.close()
        }
        #expect(log.all == [] && server.isRunning)
    }
}
