// Disks whose servers are not there: at the start, and when the backend ends or the disk is taken away.

@testable import BlockBackend
import BlockDevices
import BlockFrontend
import DriverRuntime
import LinuxSystem
import Synchronization
import Testing
import ScriptedDevices
import TestSupport
@testable import Toolstack
import XenTypes

@Suite("Disks that are away", .timeLimit(.minutes(1)))
struct AwayDiskTests {
    /// A server that is there from some attempt on.
    private final class LateServer: Sendable {
        private let state = Mutex((attempts: 0, isThere: false))
        var attempts: Int { state.withLock { $0.attempts } }
        func arrive() { state.withLock { $0.isThere = true } }

        @Sendable func open(_ settings: DiskSettings) throws(DeviceOpenFailure) -> any BlockDevice {
            guard settings.target.hasPrefix("nbd+unix:") else { return try openFile(settings) }
            let isThere = state.withLock { state in
                state.attempts += 1
                return state.isThere
            }
            if isThere { return NullDisk(byteCount: 1 << 20) }
            var failure = DeviceOpenFailure(.noSuchAddressOrDevice, "nbd+unix:///?socket=/x: nobody is there")
            failure.mayPass = true
            throw failure
        }
    }

    /// A second disk, whose server `/x` is.
    private func attachRemote(_ pair: BlockPair, _ options: String = "") throws -> DevicePaths {
        try pair.toolstack.create(
            DeviceDirectories.Attachment(
                try DiskSpecification(parsing: "vdev=xvdb,access=rw,\(options)target=nbd+unix:///?socket=/x"), frontend: DomainID(1)
            ))
    }

    @Test("a server that is not there yet is waited for: one line, nobody else waits, and then the disk is there")
    func lateServer() throws {
        let server = LateServer()
        let pair = try BlockPair(opener: server.open)
        let paths = try attachRemote(pair)
        #expect(eventually { server.attempts >= 3 })
        let store = pair.toolstack.store
        #expect(try store.value(paths.backendPath + "/state") == "1")
        let text = "nbd+unix:///?socket=/x: nobody is there; waited for, 30 s at most"
        #expect(try store.value(paths.backendErrorPath + "/error") == "6 \(text)")
        do throws(ToolstackError) {
            try pair.toolstack.waitServed(paths, milliseconds: 50)
            Issue.record("served")
        } catch { #expect("\(error)".contains(text), "\(error)") }
        // The other one is not kept waiting.
        let frontend = try pair.connect()
        server.arrive()
        try pair.toolstack.waitServed(paths, milliseconds: 5000)
        #expect(try store.value(paths.backendErrorPath + "/error") == nil)
        #expect(pair.backend.log.filter { $0.contains("nobody is there") } == ["vbd 1/51728: \(text)"])
        frontend.close()
        pair.backend.stop()
    }

    @Test("a server that stays away is an error after the limit, with 0 at once")
    func limits() throws {
        for (delay, most) in [("0", 1000), ("1", 5000)] as [(String, Int64)] {
            let server = LateServer()
            let pair = try BlockPair(opener: server.open)
            let start = monotonicMilliseconds()
            let paths = try attachRemote(pair, "reconnect-delay=\(delay),")
            let store = pair.toolstack.store
            #expect(try store.value(paths.backendPath + "/reconnect-delay") == delay)
            #expect(try eventually(10_000) { try store.value(paths.backendPath + "/state") == "5" })
            #expect(monotonicMilliseconds() - start < most)
            #expect(
                try store.value(paths.backendErrorPath + "/error") == "6 nbd+unix:///?socket=/x: nobody is there")
            pair.backend.stop()
        }
    }

    @Test("a disk that is taken away while its server is waited for is gone, and the server is left alone")
    func takenAway() throws {
        let server = LateServer()
        let pair = try BlockPair(opener: server.open)
        let paths = try attachRemote(pair)
        #expect(eventually { server.attempts >= 1 })
        try pair.toolstack.remove(paths, force: true, milliseconds: 2000)
        #expect(try pair.toolstack.store.value(paths.backendPath + "/state") == nil)
        // An attempt may be under way; then there are no more.
        sleepMilliseconds(300)
        let seen = server.attempts
        sleepMilliseconds(1200)
        #expect(server.attempts == seen)
        pair.backend.stop()
    }

    @Test("a backend that ends while its disk is away ends at once, and what waited is done by the next", arguments: [false, true])
    func ending(withJournal: Bool) throws {
        let journals = try TemporaryDirectory()
        var options = BlockBackendOptions()
        if withJournal { options.journalDirectory = journals.path + "/journal" }
        let disk = ScriptedDisk()
        let pair = try BlockPair(backendOptions: options, backendDomain: 3, opener: { (_) in disk })
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        disk.isAway = true
        for block in 0..<4 {
            #expect(
                try queue.submit(.read, sector: UInt64(block * 8), bufferOffset: block * 4096, byteCount: 4096, tag: UInt64(block)))
        }
        queue.kick()
        #expect(disk.wait(for: 4))
        let start = monotonicMilliseconds()
        pair.backend.stop()
        #expect(monotonicMilliseconds() - start < 2000)
        let next = try RunningBackend(pair.host, domain: 3, options)
        let ended = try queue.waitForAll()
        #expect(ended.count == 4 && ended.allSatisfy { $0.outcome == .okay }, "\(ended)")
        #expect(queue.buffer.bytes(at: 4096, count: 8) == [8, 0, 0, 0, 0, 0, 0, 0])
        frontend.close()
        next.stop()
    }

    @Test("a frontend may ask for no more queues than the disk can have")
    func queues() throws {
        let disk = ScriptedDisk()
        disk.queueLimit = 1
        let pair = try BlockPair(opener: { (_) in disk })
        #expect(eventually { (try? pair.node("multi-queue-max-queues")) == "1" })
        pair.backend.stop()
    }
}
