// Whoever looks at a device while it comes and goes: old values or none, and nothing traps.

import BlockBackend
import BlockFrontend
import DriverRuntime
import LinuxSystem
import Synchronization
import Testing
import TestSupport
import XenTypes

/// Looks without pause, on a thread of its own.
private final class Looker: Sendable {
    struct Seen {
        var looks = 0
        var mostReads: UInt64 = 0
        var hadQueue = false
        var hadNone = false
    }
    private let seen = Mutex(Seen())
    private let isOver = Atomic<Bool>(false)
    private let thread = Mutex<WorkerThread?>(nil)

    init(_ backend: RunningBackend) throws {
        let started = try WorkerThread(name: "looker") { [self] in
            while !isOver.load(ordering: .relaxed) { look(backend) }
        }
        thread.withLock { $0 = started }
    }

    private func look(_ backend: RunningBackend) {
        let status = backend.service.status
        for device in backend.service.controlled(counters: { _ in DeviceCounters(read: { [] }, carryOver: { _ in }) }) {
            _ = try? device.attributes()
        }
        let reads = status.flatMap(\.queues).reduce(0) { $0 + $1.reads }
        seen.withLock {
            $0.looks += 1
            $0.mostReads = max($0.mostReads, reads)
            if status.contains(where: { !$0.queues.isEmpty }) { $0.hadQueue = true } else { $0.hadNone = true }
        }
    }

    var soFar: Seen { seen.withLock { $0 } }

    func stop() -> Seen {
        isOver.store(true, ordering: .relaxed)
        thread.withLock { $0.take() }?.join()
        return soFar
    }
}

@Suite(.timeLimit(.minutes(2))) struct StatusWhileEndingTests {
    @Test func A11_statisticsAreReadWhileTheQueueGoes() throws {
        for round in 0..<20 {
            let pair = try BlockPair()
            let looker = try Looker(pair.backend)
            let frontend = try pair.connect()
            var queue = try frontend.takeQueue(0)
            for tag in 0..<16 { _ = try queue.submit(.read, sector: UInt64(tag * 8), byteCount: 4096, tag: UInt64(tag)) }
            queue.kick()
            #expect(try queue.waitForAll(milliseconds: 5000).count == 16)
            #expect(eventually(5000) { looker.soFar.mostReads == 16 })
            // Three ways in which a queue goes: its driver leaves, its backend does, its host is lost.
            switch round % 3 {
            case 0:
                frontend.close()
                pair.backend.stop()
            case 1: pair.backend.stop()
            default: pair.backend.kill()
            }
            let looks = looker.soFar.looks
            #expect(eventually(5000) { looker.soFar.looks > looks + 10 })
            let seen = looker.stop()
            #expect(seen.hadQueue && seen.hadNone && seen.mostReads == 16)
            #expect(pair.backend.service.status.allSatisfy { $0.queues.isEmpty })
            if round % 3 != 0 { frontend.close() }
        }
    }
}
