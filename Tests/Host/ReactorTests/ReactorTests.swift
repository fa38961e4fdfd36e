import Foundation
import Glibc
import LinuxSystem
import Synchronization
import TestSupport
import Testing

@testable import Reactor

/// Records what it is told.
final class Recorder: ReactorClient, @unchecked Sendable {
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
            let reactor = try Reactor(name: "start-stop", time: .system)
            try reactor.start()
            #expect(reactor.run { reactor.isOnThread })
            #expect(!reactor.isOnThread)
            reactor.stop()
        }
    }

    @Test("a ring that the kernel refuses is an error, and nothing is freed twice")
    func refusedRing() {
        // No ring has no entries. A double free ends the process.
        for _ in 0..<100 {
            #expect(throws: Errno.invalidArgument) { _ = try Reactor(name: "none", time: .system, entries: 0) }
            #expect(throws: Errno.invalidArgument) { _ = try WriteChain(entries: 0) }
        }
    }

    @Test func whatIsPostedAfterTheEndKeepsNothingAlive() throws {
        weak var watched: Reactor?
        do {
            let reactor = try Reactor(name: "ended", time: .system)
            watched = reactor
            try reactor.start()
            let slot = reactor.run { reactor.attach(Recorder()) }
            reactor.stop()
            reactor.notify(slot, tag: 1, result: 0)
            reactor.post { _ = reactor.name }
            #expect(reactor.run { reactor.name } == "ended")
        }
        #expect(watched == nil)
    }

    @Test func postsFromManyThreadsAllRun() async throws {
        for polling in [PollingPolicy.sleep, .adaptive(microseconds: 20), .always] {
            let reactor = try Reactor(name: "posts", time: .system, polling: polling)
            try reactor.start()
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
            #expect(reactor.run { counter.value } == total)
            reactor.stop()
        }
    }

    @Test func timersFireInOrderAndNotEarly() throws {
        let reactor = try Reactor(name: "timers", time: .system)
        let recorder = Recorder()
        let slot = reactor.attach(recorder)
        let start = monotonicNanoseconds()
        reactor.after(microseconds: 30_000, slot, tag: 3)
        reactor.after(microseconds: 1_000, slot, tag: 1)
        reactor.after(microseconds: 10_000, slot, tag: 2)
        reactor.after(microseconds: .max, slot, tag: 4)
        try reactor.runLoop(until: { recorder.completions.count >= 3 })
        #expect(monotonicNanoseconds() - start >= 30_000_000)
        #expect(recorder.completions.map(\.tag) == [1, 2, 3])
        #expect(recorder.completions.allSatisfy { $0.result == 0 })
    }

    /// Timers go by the reactor's clock and by nothing else: one that is hours away fires when the clock is set on.
    @Test func timersGoByTheReactorsClock() throws {
        let clock = ManualClock()
        let reactor = try Reactor(name: "hours", time: clock)
        let recorder = Recorder()
        let slot = reactor.attach(recorder)
        reactor.after(microseconds: 7_200_000_000, slot, tag: 2)
        reactor.after(microseconds: 3_600_000_000, slot, tag: 1)
        func turns() throws -> [UInt32] {
            for _ in 0..<3 { try reactor.runOnce(mayWait: false) }
            return recorder.completions.map(\.tag)
        }
        #expect(try turns() == [])
        clock.advance(nanoseconds: 3_599_999_999_999)
        #expect(try turns() == [])
        clock.advance(nanoseconds: 1)
        #expect(try turns() == [1])
        clock.advance(milliseconds: 3_600_000)
        #expect(try turns() == [1, 2])
    }

    @Test func readabilityCompletesOnce() throws {
        let reactor = try Reactor(name: "readable", time: .system)
        let recorder = Recorder()
        let slot = reactor.attach(recorder)
        let pipe = try WakePipe()
        reactor.whenReadable(pipe.reader, slot, tag: 7)
        try reactor.runOnce(mayWait: false)
        #expect(recorder.completions.isEmpty)
        #expect(reactor.inFlight(slot) == 0)
        signalPipe(pipe.writer)
        try reactor.runLoop(until: { !recorder.completions.isEmpty })
        signalPipe(pipe.writer)
        for _ in 0..<3 { try reactor.runOnce(mayWait: false) }
        #expect(recorder.completions.map(\.tag) == [7])
        #expect((recorder.completions.first?.result ?? 0) & Int32(POLLIN) != 0)
    }

    @Test func moreOperationsThanTheRingHolds() throws {
        let reactor = try Reactor(name: "full", time: .system, entries: 8)
        let recorder = Recorder()
        let slot = reactor.attach(recorder)
        let file = reactor.addFile(try Descriptor.open("/dev/zero", O_RDWR))
        for tag in 0..<1000 { reactor.beginSync(file, dataOnly: true, slot, tag: UInt32(tag)) }
        #expect(reactor.inFlight(slot) == 1000)
        try reactor.runLoop(until: { recorder.completions.count == 1000 })
        #expect(Set(recorder.completions.map(\.tag)).count == 1000)
        // /dev/zero cannot be synchronized: the error reaches each tag.
        #expect(recorder.completions.allSatisfy { $0.result == -EINVAL })
        #expect(reactor.inFlight(slot) == 0)
        reactor.removeFile(file)
    }

    @Test func stopWaitsForWhatIsInFlight() throws {
        let reactor = try Reactor(name: "stopping", time: .system)
        let recorder = Recorder()
        try reactor.start()
        let counter = Counter()
        reactor.post {
            let slot = reactor.attach(recorder)
            reactor.beginExternal(slot)
            reactor.after(microseconds: 1_000_000_000, slot, tag: 9)
            counter.slot = slot
        }
        reactor.run {}
        let finisher = Thread { [slot = counter.slot!] in
            usleep(100_000)
            reactor.finishExternal(slot, tag: 5, result: 42)
        }
        let start = monotonicNanoseconds()
        finisher.start()
        reactor.stop()
        #expect(monotonicNanoseconds() - start >= 90_000_000)
        #expect(recorder.completions.map(\.tag) == [5] && recorder.completions.first?.result == 42)
    }

    @Test func aDetachedClientHearsNoMore() throws {
        let reactor = try Reactor(name: "detach", time: .system)
        let first = Recorder()
        let second = Recorder()
        let pipe = try WakePipe()
        let slot = reactor.attach(first)
        reactor.whenReadable(pipe.reader, slot, tag: 1)
        reactor.after(microseconds: 1000, slot, tag: 2)
        reactor.beginExternal(slot)
        try reactor.runOnce(mayWait: false)
        reactor.detach(slot)
        let next = reactor.attach(second)
        #expect(next != slot)
        reactor.finishExternal(slot, tag: 3, result: 0)
        signalPipe(pipe.writer)
        usleep(2000)
        for _ in 0..<5 { try reactor.runOnce(mayWait: false) }
        #expect(first.completions.isEmpty && second.completions.isEmpty)
        // The place is free again now that nothing of its first tenant is left.
        let third = reactor.attach(Recorder())
        #expect(third.index == slot.index && third.generation != slot.generation)
        #expect(reactor.waits.isEmpty)
    }

    @Test func anIdleReactorSleeps() throws {
        let reactor = try Reactor(name: "idle", time: .system)
        try reactor.start()
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
    var slot: ReactorSlot?
}

/// A reactor that cannot start says so, and is a stopped one.
@Suite(.timeLimit(.minutes(1)))
struct StartTests {
    @Test func withoutAThread() async {
        await #expect(processExitsWith: .success) {
            guard let reactor = try? Reactor(name: "blkback-0", time: .system) else { exit(2) }
            // The limit does not bind root.
            if geteuid() == 0 { setuid(65534) }
            var limit = rlimit(rlim_cur: 0, rlim_max: 0)
            setrlimit(__rlimit_resource_t(__RLIMIT_NPROC.rawValue), &limit)
            do {
                try reactor.start()
                exit(3)
            } catch {
                // Nothing hangs afterwards.
                reactor.stop()
                guard reactor.run({ 5 }) == 5 else { exit(4) }
                exit("\(error)".hasPrefix("no thread for reactor blkback-0: ") ? 0 : 5)
            }
        }
    }

    @Test func withoutARing() throws {
        let reactor = try Reactor(name: "blkback-0", time: .system)
        let descriptor = unsafe reactor.uring.raw.pointee.ring_fd
        // Nobody's: the call fails as the kernel's would.
        unsafe reactor.uring.raw.pointee.ring_fd = 1 << 24
        #expect(throws: ReactorError.noRing(reactor: "blkback-0", Errno(EBADF))) { try reactor.start() }
        #expect(throws: ReactorError.noRing(reactor: "blkback-0", Errno(EBADF))) { _ = try reactor.runOnce(mayWait: false) }
        unsafe reactor.uring.raw.pointee.ring_fd = descriptor
        reactor.stop()
        #expect(reactor.run { 5 } == 5)
    }
}
