// Rings that are lost on their way: whoever has requests out looks again, slowly, and rings again.

import BlockFrontend
import BlockProtocol
import Hypervisor
import LinuxSystem
import MockPeers
import SharedMemory
import SharedRing
import Synchronization
import Testing
import TestSupport

@Suite(.timeLimit(.minutes(1))) struct LostRingTests {
    private static let answer = BlockResponse(id: 0, operation: .read, status: .okay)

    /// Whether it was rung since the last time.
    @discardableResult private func hears(_ channel: any EventChannel) -> Bool {
        defer { channel.unmask() }
        return channel.acknowledge()
    }

    @Test("an answer whose ring is lost is found while its caller waits without limit")
    func lostAnswer() throws {
        try withMockBackend { backend, frontend in
            var queue = try frontend.takeQueue(0)
            _ = try queue.submit(.read, sector: 0, byteCount: 4096, tag: 5)
            queue.kick()
            let region = try #require(backend.rings).region
            let begun = monotonicMilliseconds()
            let late = try WorkerThread(name: "late") {
                // The waiter sleeps by now: it has looked, and relies on being rung.
                sleepMilliseconds(200)
                BlockRing(.native).storeResponse(Self.answer, region, 64)
                region.storeReleasing(1, at: RingHeader.responseProduced)
            }
            try queue.wait(milliseconds: -1)
            late.join()
            var ended: [BlockCompletion] = []
            queue.reap { ended.append($0) }
            #expect(ended.map(\.outcome) == [.okay] && monotonicMilliseconds() - begun < 5000)
        }
    }

    @Test("a backend that did not hear is rung again, one that took the request is not")
    func lostRequest() throws {
        try withMockBackend { backend, frontend in
            let channel = try #require(backend.channel)
            hears(channel)
            var queue = try frontend.takeQueue(0)
            _ = try queue.submit(.read, sector: 0, byteCount: 4096, tag: 5)
            queue.kick()
            // The ring is lost: taken, and nothing done about it.
            #expect(try waitReadable(channel.descriptor.rawValue, milliseconds: 2000) && hears(channel))
            try queue.wait(milliseconds: 1500)
            #expect(hears(channel), "it is not rung again")
            // It has taken the request and asks to be told of the next one.
            backend.rings?.region.storeReleasing(UInt32(2), at: RingHeader.requestEvent)
            try queue.wait(milliseconds: 1500)
            #expect(!hears(channel), "a backend at work is disturbed")
        }
    }

    @Test("the same for the many callers of a disk")
    func callersOfADisk() throws {
        try withMockBackend { backend, frontend in
            let disk = try BlockDisk(frontend)
            let outcome = Mutex<Result<Void, BlockDiskError>?>(nil)
            let caller = try WorkerThread(name: "caller") {
                var bytes = [UInt8](repeating: 0, count: 4096)
                var span = bytes.mutableSpan
                var raw = span.mutableBytes
                do throws(BlockDiskError) {
                    try disk.read(at: 0, into: &raw)
                    outcome.withLock { $0 = .success(()) }
                } catch { outcome.withLock { $0 = .failure(error) } }
            }
            let channel = try #require(backend.channel)
            #expect(try waitReadable(channel.descriptor.rawValue, milliseconds: 2000))
            // The reaper sleeps by now.
            sleepMilliseconds(100)
            backend.answer([Self.answer], produced: 1, rings: false)
            #expect(eventually(5000) { outcome.withLock { $0 != nil } }, "the caller waits for ever")
            if outcome.withLock({ $0 == nil }) { backend.answer([], produced: 1) }
            caller.join()
            disk.close()
        }
    }
}
