import Testing

@testable import Reactor

/// How long a reactor spins follows what its waits turn out to be.
struct SpinWindowTests {
    private let limit: UInt64 = 20_000

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

    @Test func nobodySpinsWhileOthersWantTheProcessor() {
        var window = SpinWindow()
        let quick = window.yielded(500, now: 1000)
        #expect(!quick && window.length > 0)
        let slow = window.yielded(3_000_000, now: 1000)
        #expect(slow && window.length == 0)
        // Short waits do not open it before the time is over.
        window.waited(5000, now: 1_500_000, limit: limit)
        #expect(window.length == 0)
        window.waited(5000, now: 3_000_000, limit: limit)
        #expect(window.length == SpinWindow.firstStep)
    }
}
