// What a backend does by its clock: how often it says something, how long it waits, when it tries again. With a clock
// that the test sets, so that nobody waits.

@testable import BlockBackend
import BlockDevices
import BlockProtocol
import DMA
import DriverRuntime
import LinuxSystem
import Synchronization
import TestHosts
import Testing
import TestSupport
import XenTypes

@Suite(.timeLimit(.minutes(1)))
struct TimeTests {
    /// A queue's troubles cost the log one line a second, however many there are.
    @Test func troubleIsToldOnceASecond() {
        let clock = ManualClock()
        var watch = MemoryWatch()
        func lines(_ text: String?) -> [String] {
            var trouble = text
            return watch.lines(&trouble, nil, clock)
        }
        #expect(lines(nil) == [])
        #expect(lines("first") == ["first"], "the first is told at once")
        for _ in 0..<1000 { #expect(lines("second") == []) }
        clock.advance(nanoseconds: 999_999_999)
        #expect(lines("third") == [])
        clock.advance(nanoseconds: 1)
        #expect(lines(nil) == [])
        #expect(lines("fourth") == ["fourth"])
        #expect(lines("fifth") == [])
    }

    /// A disk that a predecessor still holds is tried for two seconds, and then is what cannot be had.
    @Test func aBusyDiskIsTriedForTwoSeconds() throws {
        let scratch = try TemporaryDirectory()
        let image = scratch.image(byteCount: 1 << 20)
        let held = try openBlockDevice(target: image, time: .system)
        let clock = ManualClock()
        let opener = HostDiskOpener(time: clock)
        do throws(DeviceOpenFailure) {
            _ = try opener.open(DiskSettings(target: image, isWritable: true))
            Issue.record("opened, though it is held")
        } catch { #expect(error.number == Errno.busy.rawValue, "\(error)") }
        #expect(clock.sleeps == Array(repeating: 20, count: 99))
        withExtendedLifetime(held) {}
    }

    /// A journal directory whose owner does not go is waited for, five seconds.
    @Test func aLivingPredecessorsJournalsAreWaitedFor() throws {
        let directory = try TemporaryDirectory()
        let first = try JournalDirectory(directory.path, kind: .block, time: .system)
        let clock = ManualClock()
        #expect(throws: Errno.wouldBlock) { try JournalDirectory(directory.path, kind: .block, time: clock) }
        #expect(clock.sleeps == Array(repeating: 20, count: 250))
        withExtendedLifetime(first) {}
    }

    /// A disk that cannot be had is tried again as long as the frontend is there, after a pause that doubles up to ten
    /// seconds.
    @Test func aDiskThatCannotBeHadIsTriedAgainWithGrowingPauses() throws {
        let clock = ManualClock()
        let attempts = Mutex(0)
        let pair = try BlockPair(
            host: TestHost(time: clock),
            opener: { (_) throws(DeviceOpenFailure) in
                let number = attempts.withLock { count in
                    count += 1
                    return count
                }
                throw DeviceOpenFailure(.busy, "attempt \(number).")
            })
        // Each is told after its pause was begun.
        func hasTold(_ number: Int) -> Bool { eventually { pair.backend.log.contains { $0.contains("attempt \(number).") } } }
        /// The control loop looks at its clock whenever something happens, so something does.
        func knock() throws { try pair.toolstack.store.write(pair.paths.backendPath + "/knock", "") }
        #expect(hasTold(1))
        for (index, pause) in [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000].enumerated() {
            clock.advance(milliseconds: UInt64(pause - 1))
            try knock()
            sleepMilliseconds(20)
            #expect(attempts.withLock { $0 } == index + 1, "\(pause) ms are not over")
            clock.advance(milliseconds: 1)
            try knock()
            #expect(hasTold(index + 2), "\(pause) ms are over")
        }
        pair.backend.stop()
    }

    /// The calendar goes to and fro by years, as when somebody sets it; what is measured and waited for goes on.
    @Test func L12_theCalendarJumps() throws {
        let clock = JumpingClock()
        let pair = try BlockPair(host: TestHost(time: clock))
        let began = monotonicMilliseconds()
        for _ in 0..<3 {
            let frontend = try pair.connect()
            var queue = try frontend.takeQueue(0)
            for tag in 0..<16 { _ = try queue.submit(.write, sector: UInt64(tag * 8), byteCount: 4096, tag: UInt64(tag)) }
            queue.kick()
            #expect(try queue.waitForAll(milliseconds: 5000).allSatisfy { $0.outcome == .okay })
            frontend.close()
        }
        #expect(monotonicMilliseconds() - began < 10_000)
        pair.backend.stop()
        #expect(pair.backend.log.allSatisfy { !$0.contains("timed out") }, "\(pair.backend.log)")
    }
}

/// The system's clock, whose calendar shows another decade with each look.
private final class JumpingClock: TimeSource {
    private let looks = Atomic<UInt64>(0)
    private let system = SystemTime()

    var nanoseconds: UInt64 { system.nanoseconds }
    var calendarNanoseconds: UInt64 {
        let decade: UInt64 = 315_360_000 * 1_000_000_000
        let isBack = looks.wrappingAdd(1, ordering: .relaxed).newValue.isMultiple(of: 2)
        return isBack ? system.calendarNanoseconds - decade : system.calendarNanoseconds + decade
    }
    func sleep(nanoseconds: UInt64) { system.sleep(nanoseconds: nanoseconds) }
    func kernelDeadline(milliseconds: Int) -> UInt64 { system.kernelDeadline(milliseconds: milliseconds) }
}
