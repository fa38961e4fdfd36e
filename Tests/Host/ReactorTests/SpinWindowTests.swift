import Testing

@testable import Reactor

/// How long a reactor spins follows what its waits turn out to be, and whether others want the processor.
struct SpinWindowTests {
    private let limit: UInt64 = 20_000

    /// Nanoseconds of a yield that nobody used, of one that somebody did, and of one that somebody used for long.
    private let refused: UInt64 = 500
    private let taken: UInt64 = 30_000
    private let long: UInt64 = 3_000_000

    @Test func longWaitsCloseItAndShortOnesOpenItAgain() {
        var window = SpinWindow()
        #expect(window.length >= limit)
        var steps = 0
        while window.length > 0, steps < 10 {
            window.waited(1_000_000, now: 0, limit: limit)
            steps += 1
        }
        #expect(window.length == 0 && steps == 4)
        // What a sleep of no length costs on the way out is not held against the next spin.
        window.waited(60_000, now: 0, limit: limit)
        #expect(window.length == SpinWindow.firstStep)
        for _ in 0..<10 { window.waited(15_000, now: 0, limit: limit) }
        #expect(window.length == limit)
    }

    @Test func aLongYieldClosesItForATime() {
        var window = SpinWindow()
        var wasTaken = window.yielded(refused, now: 1000)
        #expect(!wasTaken && window.length > 0)
        wasTaken = window.yielded(long, now: 1000)
        #expect(wasTaken && window.length == 0)
        // Short waits do not open it before the time is over.
        window.waited(5000, now: 1_500_000, limit: limit)
        #expect(window.length == 0)
        window.waited(5000, now: 3_000_000, limit: limit)
        #expect(window.length == SpinWindow.firstStep)
    }

    /// A moment for somebody else ends this spin and leaves the window open; one at every offer closes it.
    @Test func aBusyProcessorClosesItAndAnIdleMomentDoesNot() {
        var window = SpinWindow()
        for _ in 0..<100 {
            offer(&window, taken, times: SpinWindow.streak - 1)
            offer(&window, refused)
        }
        #expect(window.length > 0)
        offer(&window, taken, times: SpinWindow.streak)
        #expect(window.length == 0)
    }

    /// As long as the processor is never seen idle, it is tried less and less often.
    @Test func theHoldDoublesUntilTheProcessorIsIdle() {
        var window = SpinWindow()
        func expectHold(_ hold: UInt64, at now: UInt64) {
            offer(&window, long, now: now)
            window.waited(5000, now: now + hold - 1, limit: limit)
            #expect(window.length == 0)
            window.waited(5000, now: now + hold, limit: limit)
            #expect(window.length == SpinWindow.firstStep)
        }
        var hold = SpinWindow.firstHold
        for round in 1...8 {
            expectHold(hold, at: UInt64(round) * 1_000_000_000)
            hold = min(2 * hold, SpinWindow.longestHold)
        }
        #expect(hold == SpinWindow.longestHold)
        offer(&window, refused, times: SpinWindow.streak)
        expectHold(SpinWindow.firstHold, at: 10_000_000_000)
    }

    private func offer(_ window: inout SpinWindow, _ time: UInt64, now: UInt64 = 0, times: Int = 1) {
        for _ in 0..<times {
            let isTaken = window.yielded(time, now: now)
            #expect(isTaken == (time > SpinWindow.yieldLimit))
        }
    }
}
