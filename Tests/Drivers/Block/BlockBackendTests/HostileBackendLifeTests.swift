// Backends that lie about where they are in their life, against our frontend of a disk: it closes or connects again,
// each operation ends once, and nothing is left.

import BlockBackend
import BlockFrontend
import BlockProtocol
import Hypervisor
import LinuxSystem
import MockPeers
import SharedMemory
import SharedRing
import TestHosts
import Testing
import TestSupport
import Toolstack
import XenBus
import XenStore
import XenTypes

@Suite(.serialized, .timeLimit(.minutes(2))) struct HostileBackendLifeTests {
    private func expectNothing(_ host: TestHost) {
        #expect(eventually(5000) { host.usage.grants == 0 && host.usage.mappings == 0 && host.usage.ports == 0 }, "\(host.usage)")
    }

    /// Connects a frontend to a mock backend on a thread of its own.
    private func connecting(_ frontend: BlockFrontend<TestHypervisor>) throws -> WorkerThread {
        try WorkerThread(name: "connect") { try? frontend.connect(timeoutMilliseconds: 5000) }
    }

    /// The backend's own life begins anew, by the book: its frontend has closed, and waits for it.
    private func beginAnew(_ backend: MockBlockBackend) throws {
        try backend.say(.closing)
        #expect(try eventually(5000) { try backend.store.state(of: backend.paths.frontendPath) == .closed })
        backend.letGo()
        try backend.say(.closed)
        #expect(try eventually(5000) { try backend.store.state(of: backend.paths.frontendPath) == .initialising })
        try backend.say(.initWait)
    }

    @Test(arguments: 0..<8 as Range<UInt64>) func C7_aDisksBackendInStatesAtRandom(_ seed: UInt64) throws {
        let host = TestHost(time: .system)
        let backend = try MockBlockBackend(host)
        var random = SplitMix(seed)
        try connect(host, backend) { _ in
            if seed % 2 == 0 { try backend.connect() }
            let states = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "-1", "4abc", "", "2147483648"]
            for _ in 0..<60 {
                let state = states[Int(random.next() % UInt64(states.count))]
                try backend.store.write(backend.paths.backendPath + "/state", state)
                if random.next() % 4 == 0 { sleepMilliseconds(Int64(random.next() % 4)) }
            }
        }
    }

    /// The toolstack takes the device away at each step of its coming.
    @Test(arguments: 0..<6) func C8_aDiskIsTakenAwayAtEveryPointOfConnecting(_ step: Int) throws {
        for pause in [0, 2, 10] as [Int64] {
            let host = TestHost(time: .system)
            let backend = try MockBlockBackend(host)
            let toolstack = DeviceDirectories(store: backend.store)
            if step == 0 { try toolstack.destroy(backend.paths) }
            try connect(host, backend) { frontend in
                if step == 1 { sleepMilliseconds(pause) }
                if step >= 2 {
                    _ = try eventually(5000) { try backend.store.state(of: backend.paths.frontendPath) == .initialised }
                    sleepMilliseconds(pause)
                }
                if step >= 3 { try backend.connect(step == 3 ? [:] : MockBlockBackend.properties) }
                if step >= 4 { sleepMilliseconds(pause) }
                if step == 5 { #expect(eventually(5000) { frontend.connectionCount == 1 }) }
                if step > 0 { try toolstack.destroy(backend.paths) }
            }
        }
    }

    /// Lets a frontend come while `body` plays its backend. Once it is closed nothing of it is granted, and nobody
    /// keeps it.
    private func connect(
        _ host: TestHost, _ backend: MockBlockBackend, _ body: (BlockFrontend<TestHypervisor>) throws -> Void
    ) throws {
        weak var left: BlockFrontend<TestHypervisor>?
        do {
            let frontend = try BlockFrontend(hypervisor: host.domain(1), device: 51712)
            left = frontend
            let thread = try connecting(frontend)
            defer {
                frontend.close()
                thread.join()
                backend.letGo()
                backend.store.close()
                withExtendedLifetime(frontend) { expectNothing(host) }
            }
            try body(frontend)
        }
        #expect(left == nil)
    }

    /// A lie on the ring, a state, the device taken away, its user leaving: one end, and one for each operation.
    @Test func C12_manyReasonsForADisksEndAtOnce() throws {
        for round in 0..<20 {
            let host = TestHost(time: .system)
            let backend = try MockBlockBackend(host)
            let ends = LineCollector()
            let frontend = try BlockFrontend(hypervisor: host.domain(1), device: 51712, ended: { ends.add("\($0)") })
            let thread = try connecting(frontend)
            try backend.connect()
            thread.join()
            var queue = try frontend.takeQueue(0)
            for tag in 0..<8 as Range<UInt64> {
                _ = try queue.submit(.read, sector: tag * 8, bufferOffset: Int(tag) * 4096, byteCount: 4096, tag: tag)
            }
            queue.kick()
            let closer = try WorkerThread(name: "closer") {
                sleepMilliseconds(Int64(round % 4))
                frontend.close()
            }
            if round % 3 != 0 { backend.answer([], produced: 1 << 31) }
            try backend.say(round % 2 == 0 ? .closing : .closed)
            if round % 5 == 0 { try DeviceDirectories(store: backend.store).destroy(backend.paths) }
            var ended: [UInt64] = []
            #expect(
                eventually(5000) {
                    queue.reap { ended.append($0.tag) }
                    return ended.count >= 8
                }, "round \(round): \(ended)")
            let reason = queue.failure
            closer.join()
            queue.reap { ended.append($0.tag) }
            #expect(reason != nil && queue.failure == reason, "the reason is the first one")
            #expect(ended.sorted() == Array(0..<8), "round \(round)")
            #expect(ends.all.count <= 1, "\(ends.all)")
            _ = consume queue
            backend.letGo()
            backend.store.close()
            expectNothing(host)
        }
    }

    /// What is written into the ring of the connection before is not looked at, whatever it says.
    @Test func C28_answersOnADisksRingOfThePast() throws {
        let host = TestHost(time: .system)
        let backend = try MockBlockBackend(host)
        let frontend = try BlockFrontend(hypervisor: host.domain(1), device: 51712)
        let thread = try connecting(frontend)
        try backend.connect()
        thread.join()
        var queue = try frontend.takeQueue(0)
        _ = try queue.submit(.read, sector: 0, byteCount: 4096, tag: 1)
        queue.kick()
        let keys = try BlockRequestKeys.read(
            from: backend.store, at: backend.paths.frontendPath,
            offer: BlockOffer(indirectSegments: 4096, queues: 256, ringPageOrder: 5))
        var past: (any ContiguousGrants)? = try backend.hypervisor.mapContiguous(
            keys.queues[0].ring, of: DomainID(1), access: .readWrite)
        try beginAnew(backend)
        try backend.connect()
        #expect(eventually(5000) { frontend.connectionCount == 2 })
        queue.reap { _ in }
        // Lies and truths, on the old ring: nobody hears of the one or the other.
        for answer in [
            BlockResponse(id: 0, operation: .read, status: .okay), BlockResponse(id: 999, operation: .write, status: .okay),
        ] {
            let region = try #require(past?.region)
            BlockRing(.native).storeResponse(answer, region, 64)
            region.storeReleasing(UInt32(1), at: RingHeader.responseProduced)
            backend.channel?.notify()
            var ended = 0
            queue.reap { _ in ended += 1 }
            sleepMilliseconds(20)
            queue.reap { _ in ended += 1 }
            #expect(ended == 0 && queue.failure == nil)
        }
        backend.answer([BlockResponse(id: 0, operation: .read, status: .okay)], produced: 1)
        #expect(try queue.waitForAll(milliseconds: 3000).map(\.outcome) == [.okay])
        past?.unmap()
        past = nil
        frontend.close()
        backend.letGo()
        backend.store.close()
        _ = consume queue
        expectNothing(host)
    }
}
