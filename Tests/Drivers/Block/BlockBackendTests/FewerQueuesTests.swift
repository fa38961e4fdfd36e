// A backend returns that takes fewer queues than the last: the disk goes on with those, and with all again when it can.

@testable import BlockBackend
import BlockFrontend
import Foundation
import LinuxSystem
import Synchronization
import TestHosts
import Testing
import TestSupport

@Suite("A backend that takes fewer queues", .timeLimit(.minutes(1)))
struct FewerQueuesTests {
    private func options(_ queues: UInt32) -> BlockBackendOptions {
        var options = BlockBackendOptions()
        options.queues = queues
        return options
    }

    private var wishes: BlockFrontendOptions {
        var wishes = BlockFrontendOptions()
        wishes.queues = 4
        return wishes
    }

    private func serves(_ frontend: BlockFrontend<TestHypervisor>, _ queues: Int) -> Bool {
        let deadline = monotonicMilliseconds() + 3000
        while frontend.servedQueueCount != queues, monotonicMilliseconds() < deadline { sleepMilliseconds(1) }
        return frontend.servedQueueCount == queues
    }

    /// A queue without a ring gives back what it had taken, refuses more, and serves again when a backend takes it.
    @Test func aQueueThatIsLeftOver() throws {
        let pair = try BlockPair(backendOptions: options(4), backendDomain: 5)
        let frontend = try pair.connect(wishes)
        #expect(frontend.queueCount == 4 && frontend.servedQueueCount == 4)
        var first = try frontend.takeQueue(0)
        var last = try frontend.takeQueue(3)
        #expect(try last.perform(.read, byteCount: 4096) == .okay)
        pair.backend.kill()
        for tag in 0..<20 { #expect(try last.submit(.read, sector: 8, byteCount: 4096, tag: UInt64(tag))) }
        last.kick()
        var backend = try RunningBackend(pair.host, domain: 5, options(2))
        let ended = try last.waitForAll()
        #expect(ended.count == 20 && ended.allSatisfy { $0.outcome == .displaced })
        #expect(last.isDisplaced && !last.isConnected && frontend.queueCount == 4)
        #expect(serves(frontend, 2))
        #expect(throws: BlockFrontendError.displaced) { try last.submit(.flush, tag: 1) }
        #expect(try first.perform(.read, byteCount: 4096) == .okay)
        #expect(try pair.toolstack.store.read(pair.paths.frontendPath + "/multi-queue-num-queues") == "2")
        backend.kill()
        backend = try RunningBackend(pair.host, domain: 5, options(4))
        #expect(try first.perform(.read, byteCount: 4096) == .okay)
        #expect(serves(frontend, 4))
        #expect(try last.perform(.read, byteCount: 4096) == .okay)
        let isDisplaced = last.isDisplaced
        #expect(!isDisplaced)
        frontend.close()
        backend.stop()
    }

    /// Callers that never hear of queues: every operation ends well, once, whatever number of queues there is at the
    /// moment.
    @Test func aDiskGoesOn() throws {
        let pair = try BlockPair(backendOptions: options(4), backendDomain: 5)
        let disk = try BlockDisk(try pair.connect(wishes))
        let done = Atomic<Bool>(false)
        let counts = Mutex<[Int]>(Array(repeating: 0, count: 6))
        let failures = Mutex<[String]>([])
        // Each has a part of the disk to itself, and knows what it wrote there.
        let threads = try (0..<6).map { number in
            try WorkerThread(name: "caller-\(number)") {
                var round = 0
                while !done.load(ordering: .relaxed) {
                    round += 1
                    let offset = UInt64(number) * 262_144 + UInt64(round % 16) * 16_384
                    let bytes = pattern(16_384, seed: number * 1000 + round)
                    do {
                        try disk.write(at: offset, from: bytes.span.bytes)
                        if round % 5 == 0 { try disk.flush() }
                        var read = [UInt8](repeating: 0, count: bytes.count)
                        var span = read.mutableSpan
                        var raw = span.mutableBytes
                        try disk.read(at: offset, into: &raw)
                        if read != bytes { failures.withLock { $0.append("caller \(number), round \(round): other bytes") } }
                    } catch { failures.withLock { $0.append("caller \(number), round \(round): \(error)") } }
                    counts.withLock { $0[number] += 1 }
                }
            }
        }
        var backend = pair.backend
        for (round, queues) in [1, 4, 2, 1, 3, 4].enumerated() {
            sleepMilliseconds(30)
            // Its threads stop first: one that lost its hypervisor would answer with errors, which a killed one cannot.
            backend.service.abandon()
            backend.join()
            backend.kill()
            backend = try RunningBackend(pair.host, domain: 5, options(UInt32(queues)))
            let before = counts.withLock { $0 }
            let deadline = monotonicMilliseconds() + 5000
            while monotonicMilliseconds() < deadline, zip(before, counts.withLock { $0 }).contains(where: { $1 < $0 + 3 }) {
                sleepMilliseconds(5)
            }
            #expect(zip(before, counts.withLock { $0 }).allSatisfy { $1 >= $0 + 3 }, "round \(round): a caller is stuck")
            #expect(serves(disk.frontend, queues))
        }
        done.store(true, ordering: .relaxed)
        for thread in threads { thread.join() }
        #expect(failures.withLock { $0 } == [])
        disk.close()
        backend.stop()
    }
}
