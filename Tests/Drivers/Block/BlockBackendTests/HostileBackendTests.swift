// Backends that lie, row by row of the attack list, against our frontend: its callers get an error, it closes, nothing
// traps.

import BlockBackend
import BlockFrontend
import BlockProtocol
import Hypervisor
import LinuxSystem
import MockPeers
import SharedMemory
import TestHosts
import Testing
import TestSupport
import XenTypes

@Suite(.timeLimit(.minutes(1)))
struct HostileBackendTests {
    /// A frontend connected to a backend of our own making, with one read in flight whose id is 0.
    private func withOneRead(_ body: (MockBlockBackend, inout BlockQueue) throws -> Void) throws {
        try withMockBackend { backend, frontend in
            var queue = try frontend.takeQueue(0)
            _ = try queue.submit(.read, sector: 0, byteCount: 4096, tag: 5)
            queue.kick()
            try body(backend, &queue)
        }
    }

    static let lies: [(String, [BlockResponse], UInt32)] = [
        ("C11: an id of 2^64-1", [BlockResponse(id: UInt64.max, operation: .read, status: .okay)], 1),
        ("C11: an id of 2^32", [BlockResponse(id: 1 << 32, operation: .read, status: .okay)], 1),
        ("C11: an id that is free", [BlockResponse(id: 3, operation: .read, status: .okay)], 1),
        ("C11: an id past the table", [BlockResponse(id: 32, operation: .read, status: .okay)], 1),
        ("C13: more responses than requests", [BlockResponse(id: 0, operation: .read, status: .okay)], 2),
        ("C13: a producer far ahead", [], 1 << 31),
        ("C13: a producer that went back", [], UInt32.max),
        ("C14: another operation than was asked", [BlockResponse(id: 0, operation: .write, status: .okay)], 1),
    ]

    @Test(arguments: lies.indices) func aLieBreaksTheDeviceAndItsCallersHear(_ index: Int) throws {
        let (name, responses, produced) = Self.lies[index]
        try withOneRead { backend, queue in
            backend.answer(responses, produced: produced)
            let ended = try queue.waitForAll(milliseconds: 3000)
            #expect(ended.map(\.outcome) == [.lost], "\(name)")
            guard case .backendBroken = queue.failure else {
                Issue.record("\(name): \(String(describing: queue.failure))")
                return
            }
            // Said where the toolstack looks, and closing.
            let deadline = monotonicMilliseconds() + 3000
            while try backend.store.state(of: backend.paths.frontendPath) != .closing, monotonicMilliseconds() < deadline {
                sleepMilliseconds(2)
            }
            #expect(try backend.store.state(of: backend.paths.frontendPath) == .closing, "\(name)")
            #expect(try backend.store.read("/local/domain/1/error/device/vbd/51712/error").contains("broke"))
        }
    }

    @Test func C11_theSameIdTwice() throws {
        try withOneRead { backend, queue in
            _ = try queue.submit(.read, sector: 8, bufferOffset: 4096, byteCount: 4096, tag: 6)
            queue.kick()
            let twice = BlockResponse(id: 0, operation: .read, status: .okay)
            backend.answer([twice, twice], produced: 2)
            let ended = try queue.waitForAll(milliseconds: 3000)
            #expect(ended.map(\.outcome) == [.okay, .lost])
        }
    }

    /// Where the frontend can tell: of a host that is reached through Xen's libraries it cannot.
    @Test func C1_aPageThatStaysMappedBreaksTheDevice() throws {
        try withOneRead { backend, queue in
            let own = try backend.hypervisor.offerPages(1, to: DomainID(1), access: .readWrite)
            defer { own.withdraw() }
            guard own.isMapped(page: 0) != nil else { return }
            // The first request's first segment.
            let ring = try #require(backend.rings?.region)
            let reference = GrantReference(ring.load(64 + 24, as: UInt32.self))
            let kept = try backend.hypervisor.mapGrants([reference], of: DomainID(1), access: .readWrite)
            backend.answer([BlockResponse(id: 0, operation: .read, status: .okay)], produced: 1)
            #expect(try queue.waitForAll(milliseconds: 3000).map(\.outcome) == [.lost])
            #expect("\(String(describing: queue.failure))".contains("still mapped"))
            backend.hypervisor.unmapGrants(kept)
        }
    }

    @Test(arguments: ["0", "1"]) func C15_aReadThatWasNotDoneShowsNobodyElsesBytes(_ trusted: String) throws {
        try withMockBackend(nodes: ["trusted": trusted]) { backend, frontend in
            var queue = try frontend.takeQueue(0)
            // What another caller wrote, before, in and behind what is to be read.
            queue.buffer.fill(0, count: 5 * 4096, with: 0x5A)
            _ = try queue.submit(.read, sector: 0, bufferOffset: 512, byteCount: 4 * 4096, tag: 5)
            queue.kick()
            backend.answer([BlockResponse(id: 0, operation: .read, status: .okay)], produced: 1)
            #expect(try queue.waitForAll(milliseconds: 3000).map(\.outcome) == [.okay])
            let bytes = queue.buffer.bytes(at: 0, count: 5 * 4096)
            #expect(bytes[512..<512 + 4 * 4096].allSatisfy { $0 == (trusted == "0" ? 0 : 0x5A) })
            #expect((bytes[..<512] + bytes[(512 + 4 * 4096)...]).allSatisfy { $0 == 0x5A })
        }
    }

    @Test(arguments: [Int16(1), -1, -3, -32768, 32767]) func C14_strangeStatusesAreErrorsOfThatRequest(_ status: Int16) throws {
        try withOneRead { backend, queue in
            backend.answer([BlockResponse(id: 0, operation: .read, status: BlockStatus(rawValue: status))], produced: 1)
            let ended = try queue.waitForAll(milliseconds: 3000)
            #expect(ended.map(\.outcome) == [.failed])
            #expect(queue.failure == nil)
        }
    }

    @Test(arguments: [
        ("sectors", "18446744073709551615"), ("sectors", "-1"), ("sectors", ""), ("sector-size", "0"), ("sector-size", "3"),
        ("sector-size", "2147483648"), ("info", "junk"), ("discard-granularity", "0"),
    ]) func C18_absurdKeysAreRefused(_ key: String, _ value: String) throws {
        let host = TestHost(time: .system)
        let backend = try MockBlockBackend(host)
        let frontend = try BlockFrontend(hypervisor: host.domain(1), device: 51712)
        let connecting = try WorkerThread(name: "connect") {
            do {
                try frontend.connect(timeoutMilliseconds: 3000)
                Issue.record("connected in spite of \(key) \(value)")
            } catch {}
        }
        var properties = MockBlockBackend.properties
        properties["feature-discard"] = "1"
        properties[key] = value
        try backend.connect(properties)
        connecting.join()
        #expect(try backend.store.read("/local/domain/1/error/device/vbd/51712/error").contains(key))
        frontend.close()
    }

    @Test(arguments: [
        ["feature-max-indirect-segments": "4294967295"], ["max-ring-page-order": "99"], ["multi-queue-max-queues": "4294967295"],
        ["max-ring-pages": "4294967295"],
    ]) func C18_absurdOffersAreCapped(_ offer: [String: String]) throws {
        let host = TestHost(time: .system)
        let backend = try MockBlockBackend(host, offer: offer)
        var options = BlockFrontendOptions()
        options.queues = 2
        options.ringPageOrder = 5
        options.segments = 4096
        options.bufferPages = 64
        let frontend = try BlockFrontend(hypervisor: host.domain(1), device: 51712, options: options)
        let connecting = try WorkerThread(name: "connect") { try? frontend.connect(timeoutMilliseconds: 5000) }
        try backend.connect()
        connecting.join()
        #expect(frontend.queueCount <= 2)
        frontend.close()
    }

    @Test func C19_whatIsPastTheEndIsNotAsked() throws {
        try withMockBackend { _, frontend in
            var queue = try frontend.takeQueue(0)
            for (sector, byteCount) in [(8192, 512), (8191, 1024), (8185, 4096), (UInt64.max - 7, 4096), (1 << 63, 512)] {
                #expect(throws: BlockFrontendError.self) {
                    _ = try queue.submit(.read, sector: sector, byteCount: byteCount, tag: 1)
                }
            }
            #expect(try queue.submit(.read, sector: 8184, byteCount: 4096, tag: 1))
            #expect(queue.inFlight == 1)
        }
    }

    @Test func C23_aBackendThatNeverAnswersCanBeLeft() throws {
        let host = TestHost(time: .system)
        let backend = try MockBlockBackend(host)
        let frontend = try BlockFrontend(hypervisor: host.domain(1), device: 51712)
        let connecting = try WorkerThread(name: "connect") { try? frontend.connect(timeoutMilliseconds: 5000) }
        try backend.connect()
        connecting.join()
        let disk = try BlockDisk(frontend)
        let outcome = LineCollector()
        let caller = try WorkerThread(name: "caller") {
            do { try disk.flush() } catch { outcome.add("\(error)") }
        }
        sleepMilliseconds(50)
        let start = monotonicMilliseconds()
        disk.close()
        caller.join()
        #expect(monotonicMilliseconds() - start < 3500)
        #expect(outcome.all == ["the device is gone"])
    }

    @Test func C24_largerSectorsAfterARestartCannotTakeWhatIsInFlight() throws {
        let host = TestHost(time: .system)
        let backend = try MockBlockBackend(host)
        let frontend = try BlockFrontend(hypervisor: host.domain(1), device: 51712)
        let connecting = try WorkerThread(name: "connect") { try? frontend.connect(timeoutMilliseconds: 5000) }
        try backend.connect()
        connecting.join()
        var queue = try frontend.takeQueue(0)
        _ = try queue.submit(.write, sector: 1, byteCount: 512, tag: 1)
        queue.kick()
        // Restarted by the book, with a disk of 4096-byte sectors.
        try backend.store.write(backend.paths.backendPath + "/state", "5")
        let deadline = monotonicMilliseconds() + 3000
        while try backend.store.state(of: backend.paths.frontendPath) != .closed, monotonicMilliseconds() < deadline {
            sleepMilliseconds(2)
        }
        backend.letGo()
        try backend.store.write(backend.paths.backendPath + "/state", "6")
        while try backend.store.state(of: backend.paths.frontendPath) != .initialising, monotonicMilliseconds() < deadline {
            sleepMilliseconds(2)
        }
        try backend.store.write(backend.paths.backendPath + "/state", "2")
        var properties = MockBlockBackend.properties
        properties["sector-size"] = "4096"
        try backend.connect(properties)
        #expect(try queue.waitForAll(milliseconds: 3000).map(\.outcome) == [.lost])
        frontend.close()
    }
}
