import Glibc
import LinuxSystem
import Synchronization
import Testing

@testable import Reactor

/// Records what it is told.
final class Recorder: ReactorClient {
    var completions: [(tag: UInt32, result: Int32)] = []
    var polls = 0
    var onCompletion: ((UInt32, Int32) -> Void)?
    func completed(tag: UInt32, result: Int32) {
        completions.append((tag, result))
        onCompletion?(tag, result)
    }
    func poll() -> Bool {
        polls += 1
        return false
    }
    func prepareToSleep() -> Bool { false }
}

@Suite(.timeLimit(.minutes(1)))
struct ReactorTests {
    @Test func startsAndStops() throws {
        for _ in 0..<20 {
            let reactor = try Reactor(name: "start-stop")
            reactor.start()
            #expect(reactor.run { reactor.isOnThread })
            #expect(!reactor.isOnThread)
            reactor.stop()
        }
    }

    @Test func postsFromManyThreadsAllRun() async throws {
        for polling in [PollingPolicy.sleep, .adaptive(microseconds: 20), .always] {
            let reactor = try Reactor(name: "posts", polling: polling)
            reactor.start()
            let count = Atomic<Int>(0)
            let total = 4 * 5000
            let counter = Counter()
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        for step in 0..<5000 {
                            reactor.post { counter.value += 1 }
                            if step % 64 == 0 { usleep(50) }
                        }
                    }
                }
            }
            _ = count.load(ordering: .relaxed)
            #expect(reactor.run { counter.value } == total)
            reactor.stop()
        }
    }

    @Test func timersFireInOrderAndNotEarly() throws {
        let reactor = try Reactor(name: "timers")
        let recorder = Recorder()
        let slot = reactor.attach(recorder)
        let start = monotonicNanoseconds()
        reactor.after(microseconds: 30_000, slot, tag: 3)
        reactor.after(microseconds: 1_000, slot, tag: 1)
        reactor.after(microseconds: 10_000, slot, tag: 2)
        reactor.after(microseconds: .max, slot, tag: 4)
        reactor.runLoop(until: { recorder.completions.count >= 3 })
        #expect(monotonicNanoseconds() - start >= 30_000_000)
        #expect(recorder.completions.map(\.tag) == [1, 2, 3])
        #expect(recorder.completions.allSatisfy { $0.result == 0 })
    }

    @Test func readabilityCompletesOnce() throws {
        let reactor = try Reactor(name: "readable")
        let recorder = Recorder()
        let slot = reactor.attach(recorder)
        let pipe = try WakePipe()
        reactor.whenReadable(pipe.reader, slot, tag: 7)
        reactor.runOnce(mayWait: false)
        #expect(recorder.completions.isEmpty)
        #expect(reactor.inFlight(slot) == 0)
        signalPipe(pipe.writer)
        reactor.runLoop(until: { !recorder.completions.isEmpty })
        signalPipe(pipe.writer)
        for _ in 0..<3 { reactor.runOnce(mayWait: false) }
        #expect(recorder.completions.map(\.tag) == [7])
        #expect((recorder.completions.first?.result ?? 0) & Int32(POLLIN) != 0)
    }

    @Test func anIdleReactorSleeps() throws {
        let reactor = try Reactor(name: "idle")
        reactor.start()
        let before = reactor.run { reactor.statistics.turns }
        usleep(300_000)
        let after = reactor.run { reactor.statistics.turns }
        // One turn ends, one is woken by the second job.
        #expect(after - before <= 3)
        reactor.stop()
    }
}

/// Touched on the reactor's thread only.
final class Counter: @unchecked Sendable {
    var value = 0
}
