// The handshake when the other side, or the toolstack, does not do what one hopes: bad keys, deaths, returns, detaches.

import BlockBackend
import BlockFrontend
import DriverRuntime
import Foundation
import Hypervisor
import LinuxSystem
import MockPeers
import SharedMemory
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenBus
import XenStore
import XenTypes

@Suite(.timeLimit(.minutes(2)))
struct HandshakeTests {
    /// Publishes keys by hand and says how the backend answered.
    private func answer(to keys: [String: String], _ pair: BlockPair) throws -> (XenbusState, error: String) {
        let client = try pair.host.store.connectInProcess(domain: DomainID(1))
        defer { client.close() }
        let path = pair.paths.frontendPath
        let deadline = monotonicMilliseconds() + 5000
        while try client.state(of: pair.paths.backendPath) != .initWait, monotonicMilliseconds() < deadline { sleepMilliseconds(2) }
        for (key, value) in keys { try client.write("\(path)/\(key)", value) }
        try client.write(path + "/state", "3")
        while [.initWait, .initialising].contains(try client.state(of: pair.paths.backendPath)), monotonicMilliseconds() < deadline
        {
            sleepMilliseconds(2)
        }
        let state = try client.state(of: pair.paths.backendPath)
        let error = try pair.toolstack.store.value("/local/domain/0/error/backend/vbd/1/51712/error") ?? ""
        return (state, error)
    }

    static let badOrders = [
        "-1", "6", "31", "32", "63", "64", "2147483648", "0x1", "", " ", "1 ", String(repeating: "9", count: 1800), "\u{fc}",
    ]

    @Test(arguments: badOrders) func A15_ringPageOrder(_ value: String) throws {
        let pair = try BlockPair()
        let baseline = pair.host.usage
        let (state, error) = try answer(to: ["ring-page-order": value, "ring-ref": "8", "event-channel": "1"], pair)
        #expect(state == .closing)
        #expect(error.contains("ring-page-order"), "\(error)")
        #expect(pair.host.usage == baseline)
        pair.backend.stop()
    }

    @Test(arguments: ["0", "5", "4294967295", "-1", "1x"]) func A16_queueCount(_ value: String) throws {
        let pair = try BlockPair()
        let (state, error) = try answer(to: ["multi-queue-num-queues": value, "ring-ref": "8", "event-channel": "1"], pair)
        #expect(state == .closing)
        #expect(error.contains("multi-queue-num-queues"), "\(error)")
        pair.backend.stop()
    }

    @Test(arguments: ["0", "7", "8", "31000", "4294967295"]) func A17_ringReference(_ value: String) throws {
        let pair = try BlockPair()
        let baseline = pair.host.usage
        let (state, error) = try answer(to: ["ring-ref": value, "event-channel": "1"], pair)
        #expect(state == .closing)
        #expect(error.contains("queue 0"), "\(error)")
        #expect(pair.host.usage == baseline)
        pair.backend.stop()
    }

    @Test(arguments: ["0", "1", "4096", "4294967295", "4294967296", "x"]) func A18_eventChannel(_ value: String) throws {
        let pair = try BlockPair()
        let ring = try pair.guest.offerPages(1, to: .zero, access: .readWrite)
        let baseline = pair.host.usage
        let (state, _) = try answer(to: ["ring-ref": ring.references[0].description, "event-channel": value], pair)
        #expect(state == .closing)
        #expect(pair.host.usage == baseline)
        ring.withdraw()
        pair.backend.stop()
    }

    @Test func A19_unknownABI() throws {
        let pair = try BlockPair()
        let (state, error) = try answer(to: ["protocol": "sparc-abi", "ring-ref": "8", "event-channel": "1"], pair)
        #expect(state == .closing)
        #expect(error.contains("protocol") && error.contains("sparc-abi"))
        pair.backend.stop()
    }

    @Test func D14_aFrontendPathInAnotherDomain() throws {
        let pair = try BlockPair()
        let store = pair.toolstack.store
        _ = try store.transaction { access throws(StoreError) in
            try access.write(pair.paths.backendPath + "/frontend", "/local/domain/2/device/vbd/51712")
            try access.write(pair.paths.backendPath + "/state", "1")
        }
        let deadline = monotonicMilliseconds() + 3000
        while try store.state(of: pair.paths.backendPath) != .closing, monotonicMilliseconds() < deadline { sleepMilliseconds(2) }
        #expect(try store.state(of: pair.paths.backendPath) == .closing)
        pair.backend.stop()
    }

    @Test func aMissingImageIsSaidInTheErrorNode_andTheOtherDiskServes() throws {
        let pair = try BlockPair()
        let paths = try pair.toolstack.create(
            .init(try DiskSpecification(parsing: "/nowhere/missing.img,raw,xvdb,w"), frontend: DomainID(1)))
        let deadline = monotonicMilliseconds() + 3000
        while try pair.toolstack.store.state(of: paths.backendPath) != .closing, monotonicMilliseconds() < deadline {
            sleepMilliseconds(2)
        }
        let error = try pair.toolstack.store.read("/local/domain/0/error/backend/vbd/1/51728/error")
        #expect(error.contains("missing.img") && error.contains("No such file"))
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        #expect(try queue.perform(.read, sector: 1, byteCount: 512) == .okay)
        frontend.close()
        pair.backend.stop()
    }

    @Test func aBackendThatDiesAndReturnsIsAPauseForItsCallers() throws {
        let pair = try BlockPair(backendDomain: 5)
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        queue.buffer.write(pattern(1 << 20, seed: 4), at: 0)
        pair.backend.kill()
        for slot in 0..<16 {
            let taken = try queue.submit(
                .write, sector: UInt64(slot) * 128, bufferOffset: slot << 16, byteCount: 1 << 16, tag: UInt64(slot))
            #expect(taken)
        }
        queue.kick()
        sleepMilliseconds(20)
        // A new process of the driver domain takes the disks over.
        let second = try RunningBackend(pair.host, domain: 5)
        let ended = try queue.waitForAll()
        #expect(ended.count == 16 && ended.allSatisfy { $0.outcome == .okay })
        #expect(queue.statistics.connections == 2)
        expectSame(try Data(contentsOf: URL(fileURLWithPath: pair.image)).prefix(1 << 20), pattern(1 << 20, seed: 4))
        frontend.close()
        second.stop()
    }

    @Test func aBackendThatIsStoppedInGoodOrderAndReturns() throws {
        let pair = try BlockPair()
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        for round in 0..<3 {
            var backend = round == 0 ? pair.backend : nil
            if backend == nil { backend = try RunningBackend(pair.host) }
            #expect(try queue.perform(.read, sector: UInt64(round), byteCount: 512) == .okay)
            #expect(queue.buffer.load(0, as: UInt64.self) == UInt64(round))
            backend?.stop()
        }
        #expect(queue.statistics.connections == 3)
        frontend.close()
    }

    @Test func aBackendWithLessToOfferTakesOverWhatIsInFlight() throws {
        let pair = try BlockPair(backendDomain: 5)
        var options = BlockFrontendOptions()
        options.ringPageOrder = 2
        let frontend = try pair.connect(options)
        var queue = try frontend.takeQueue(0)
        pair.backend.kill()
        // One request of 256 segments becomes many of 11, on a smaller ring, without persistent grants.
        queue.buffer.write(pattern(4 << 20, seed: 9), at: 0)
        for slot in 0..<4 {
            _ = try queue.submit(
                .write, sector: UInt64(slot) * 2048, bufferOffset: slot << 20, byteCount: 1 << 20, tag: UInt64(slot))
        }
        queue.kick()
        var less = BlockBackendOptions()
        less.indirectSegments = 0
        less.ringPageOrder = 0
        less.persistentGrants = false
        let second = try RunningBackend(pair.host, domain: 5, less)
        #expect(try queue.waitForAll().allSatisfy { $0.outcome == .okay })
        expectSame(try Data(contentsOf: URL(fileURLWithPath: pair.image)), pattern(4 << 20, seed: 9))
        frontend.close()
        second.stop()
    }

    @Test func A34_aFrontendThatDiesLeavesNothing() throws {
        let pair = try BlockPair()
        let before = pair.host.usage
        let guest = pair.host.domain(7)
        let image = pair.scratch.image("seven.img", byteCount: 1 << 20)
        let paths = try pair.toolstack.create(.init(try DiskSpecification(parsing: image + ",raw,xvda,w"), frontend: DomainID(7)))
        let frontend = try BlockFrontend(hypervisor: guest, device: 51712)
        try frontend.connect(timeoutMilliseconds: 5000)
        var queue = try frontend.takeQueue(0)
        for slot in 0..<32 {
            _ = try queue.submit(.read, sector: 0, bufferOffset: slot << 14, byteCount: 1 << 14, tag: UInt64(slot))
        }
        queue.kick()
        // The domain goes with everything in flight; the toolstack clears up behind it.
        pair.host.destroy(DomainID(7))
        try pair.toolstack.destroy(paths)
        expectBaseline(pair.host, before)
        frontend.close()
        pair.backend.stop()
    }

    @Test func hotUnplugEndsTheDevice_andHotPlugBringsItBack() throws {
        let pair = try BlockPair()
        let before = pair.host.usage
        for _ in 0..<3 {
            let frontend = try pair.connect()
            var queue = try frontend.takeQueue(0)
            #expect(try queue.perform(.read, sector: 3, byteCount: 512) == .okay)
            try pair.toolstack.remove(pair.paths, milliseconds: 5000)
            let deadline = monotonicMilliseconds() + 3000
            while queue.failure == nil, monotonicMilliseconds() < deadline { queue.reap { _ in }; sleepMilliseconds(2) }
            #expect(queue.failure == .removed)
            #expect(try !pair.toolstack.store.exists(pair.paths.backendPath))
            frontend.close()
            _ = consume queue
            _ = try pair.toolstack.create(.init(try DiskSpecification(parsing: pair.image + ",raw,xvda,w"), frontend: DomainID(1)))
        }
        pair.backend.stop()
        expectBaseline(pair.host, before)
    }

    @Test func A31_aRandomWalkThroughTheStates() throws {
        let pair = try BlockPair()
        let client = try pair.host.store.connectInProcess(domain: DomainID(1))
        let states = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "-1", "4abc", "", "2147483648"]
        for _ in 0..<300 { try client.write(pair.paths.frontendPath + "/state", states.randomElement()!) }
        try client.write(pair.paths.frontendPath + "/state", "6")
        let deadline = monotonicMilliseconds() + 5000
        while try client.state(of: pair.paths.backendPath) != .closed, monotonicMilliseconds() < deadline { sleepMilliseconds(5) }
        try client.write(pair.paths.frontendPath + "/state", "1")
        let frontend = try pair.connect()
        var queue = try frontend.takeQueue(0)
        #expect(try queue.perform(.read, sector: 3, byteCount: 512) == .okay)
        frontend.close()
        pair.backend.stop()
    }

    @Test func A4_manyCloseCyclesWithIOInFlight() throws {
        let pair = try BlockPair()
        let baseline = pair.host.usage
        for round in 0..<40 {
            let raw = try MockBlockFrontend(pair, persistent: round % 2 == 0)
            for id in 0..<16 { _ = raw.front.push(raw.request(.read, sector: 0, page: id, id: UInt64(id))) }
            if raw.front.publish() { raw.channel.notify() }
            try raw.close()
            try pair.restartFrontend()
        }
        pair.backend.stop()
        expectBaseline(pair.host, baseline)
    }

    @Test("a directory that is taken away between two looks at it is nothing to report")
    func takenAwayMeanwhile() throws {
        let host = TestHost(time: .system)
        let client = try host.store.connectInProcess(domain: .zero)
        let pair = try BlockPair(host: host) { (_) throws(DeviceOpenFailure) in
            // What comes next finds nothing.
            try? client.remove("/local/domain/0/backend/vbd/1/51712")
            throw DeviceOpenFailure(.noSuchFile, "taken away")
        }
        #expect(try eventually(5000) { try client.state(of: pair.paths.backendPath) == .unknown })
        sleepMilliseconds(100)
        #expect(!pair.backend.log.contains { $0.contains("taken away") }, "\(pair.backend.log)")
        pair.backend.stop()
    }

    /// A frontend's driver whose device is taken away by force while it looks at its backend.
    private final class SurprisedDriver: FrontendDriver {
        let publishedState = XenbusState.initialised
        private(set) var reasons: [String?] = []
        private let directory: String

        init(_ directory: String) { self.directory = directory }

        func publish(_ store: StoreClient, to backend: DomainID, at backendPath: String) throws(XenbusError) {
            try? store.remove(directory)
            throw .missing(backendPath + "/max-ring-page-order")
        }
        func goLive(_ store: StoreClient, _ backendPath: String) throws(XenbusError) {}
        func refresh(_ store: StoreClient, _ backendPath: String) throws(XenbusError) {}
        func suspend() {}
        func giveUp(_ reason: String?) { reasons.append(reason) }
        func changed(to phase: FrontendPhase, isAsked: Bool) {}
    }

    @Test("a device that is taken away between two looks of its frontend was taken away, and no error")
    func frontendsDeviceTakenAway() throws {
        let pair = try BlockPair()
        let driver = SurprisedDriver(pair.paths.frontendPath)
        let path = FrontendPath(domain: DomainID(1), kind: .block, number: 51712)
        FrontendFollower(path: path, time: .system).run(driver) {
            (try? pair.host.store.connectInProcess(domain: .zero)).map { .connected($0) } ?? .later
        }
        #expect(driver.reasons == [nil])
        #expect(try pair.toolstack.store.value(path.errorNode) == nil)
        pair.backend.stop()
    }
}
