// How long requests took, by a clock that a test moves.

import BlockDevices
import BlockModel
import DMA
import DeviceControl
import LinuxSystem
import Synchronization
import TestSupport
import Testing

@Suite("times of requests") struct LatencyTests {
    /// A clock that a test moves, and that counts how often it is looked at.
    private final class WatchedClock: TimeSource {
        private let clock = ManualClock()
        private let count = Atomic<Int>(0)
        var looks: Int { count.load(ordering: .relaxed) }
        var nanoseconds: UInt64 {
            count.add(1, ordering: .relaxed)
            return clock.nanoseconds
        }
        var calendarNanoseconds: UInt64 { clock.calendarNanoseconds }
        func sleep(nanoseconds: UInt64) { clock.sleep(nanoseconds: nanoseconds) }
        func kernelDeadline(milliseconds: Int) -> UInt64 { clock.kernelDeadline(milliseconds: milliseconds) }
        func advance(milliseconds: UInt64) { clock.advance(milliseconds: milliseconds) }
        func advance(nanoseconds: UInt64) { clock.advance(nanoseconds: nanoseconds) }
    }

    /// A model whose clock and disk are a test's.
    private final class Timed {
        let clock = WatchedClock()
        let disk: HeldDisk
        private var model: BlockModel<ScriptedTransport>

        init(capacity: Int = 8) {
            let transport = ScriptedTransport()
            disk = HeldDisk(transport.names)
            model = BlockModel(transport, disk: disk, capacity: capacity, segments: 4, time: clock)
        }

        var latencies: BlockLatencies { model.latencies.value }
        var inWorkNow: [BlockRequestInWork] { model.inWorkNow }
        func wake() { model.wake() }

        func ask(_ works: [BlockWork]) {
            model.transport.asked = works.enumerated().map { Asked(id: $0, work: $1) }
            _ = model.takeRequests()
        }

        func end() {
            let tag = disk.release(0).tag
            model.ended(tag: tag, .done)
        }
    }

    private static let read = BlockWork(.read(offset: 4096), byteCount: 4096)

    @Test("each request's time is counted with those of its kind, from its taking to its answer")
    func kinds() {
        let timed = Timed()
        let works = [
            Self.read, BlockWork(.write(offset: 0), byteCount: 4096), BlockWork(.flush),
            BlockWork(.discard(offset: 0, byteCount: 512, secure: false)),
        ]
        for (work, kind) in zip(works, BlockLatencyKind.allCases) {
            // Far enough apart that all are timed.
            timed.clock.advance(milliseconds: 1)
            timed.ask([work])
            #expect(timed.latencies[kind].count == 0)
            timed.clock.advance(nanoseconds: 150_000)
            timed.end()
            #expect(timed.latencies[kind].count == 1 && timed.latencies[kind].nanoseconds == 150_000, "\(kind)")
        }
    }

    @Test("a barrier's time is that of all its stages")
    func barrier() {
        let timed = Timed()
        timed.ask([BlockWork(.write(offset: 0), ordering: .barrier, byteCount: 4096)])
        for _ in 0..<3 {
            timed.clock.advance(nanoseconds: 1000)
            timed.end()
        }
        #expect(timed.latencies[.write].nanoseconds == 3000 && timed.latencies[.flush].count == 0)
    }

    @Test("of a busy queue a share is timed, and stands for all: counts and times agree within a few of a hundred")
    func sampled() {
        let timed = Timed(capacity: 1)
        let count = 400_000
        // Reads and writes by turns: an even gap would meet one kind only.
        for number in 0..<count {
            let isRead = number % 2 == 0
            timed.ask([isRead ? Self.read : BlockWork(.write(offset: 0), byteCount: 4096)])
            timed.clock.advance(nanoseconds: isRead ? 300 : 700)
            timed.end()
        }
        let (reads, writes) = (timed.latencies[.read], timed.latencies[.write])
        let all = Double(reads.count + writes.count)
        #expect(all > Double(count) - 2200 && all <= Double(count))
        // Two looks for each that is timed: one in a hundred microseconds, of half a microsecond each, and the first
        // few.
        #expect(timed.clock.looks < count / 50, "\(timed.clock.looks) looks at the clock for \(count) requests")
        #expect(abs(Double(reads.count) / all - 0.5) < 0.1, "\(reads.count) reads of \(all)")
        #expect(reads.quantile(0.99) == LatencyHistogram.end(of: LatencyHistogram.bucket(of: 300)) - 1)
        #expect(writes.quantile(0.01) == LatencyHistogram.end(of: LatencyHistogram.bucket(of: 700)) - 1)
    }

    @Test("the first request after a sleep is timed, however busy the queue was")
    func afterSleep() {
        let timed = Timed(capacity: 1)
        for _ in 0..<50_000 {
            timed.ask([Self.read])
            timed.end()
        }
        timed.wake()
        timed.clock.advance(milliseconds: 50)
        timed.ask([Self.read])
        timed.clock.advance(milliseconds: 7)
        timed.end()
        #expect(timed.latencies[.read].longest ?? 0 >= 7_000_000)
        // Each request stands for itself and those before it that were passed over: no more than there were.
        #expect(timed.latencies[.read].count == 50_001)
    }

    @Test("requests in work are shown with their ages and stages, the oldest first")
    func inWork() throws {
        let timed = Timed()
        timed.ask([Self.read])
        timed.clock.advance(milliseconds: 2)
        timed.ask([BlockWork(.write(offset: 0), ordering: .barrier, byteCount: 512)])
        let shown = timed.inWorkNow
        #expect(shown.map(\.stage) == ["at the disk", "waits for those before"])
        let fields = try #require(shown.first).fields(timed.clock.nanoseconds)
        #expect(fields.first { $0.name == "age-microseconds" }?.value == "2000")
        #expect(fields.first { $0.name == "operation" }?.value == "read")
        #expect(fields.first { $0.name == "offset-bytes" }?.value == "4096")
        timed.end()
        #expect(timed.inWorkNow.map(\.stage) == ["flush before it"])
    }
}
