// What happened in a simulation, in order.

import Synchronization

/// The lines of one run. Their hash tells two runs apart even where nobody keeps the lines.
public final class SimulationTrace: Sendable {
    private struct State {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        var lines: [String] = []
        var count = 0
    }
    private let state = Mutex(State())
    private let keepsLines: Bool
    private let time: SimulatedClock

    /// - Parameter keepsLines: whether they can be had at the end.
    public init(keepsLines: Bool, time: SimulatedClock) {
        self.keepsLines = keepsLines
        self.time = time
    }

    /// Adds a line, which is only made where it is kept; `code` says in a number what it is about.
    public func note(_ code: UInt64, _ line: @autoclosure () -> String) {
        let now = time.nanoseconds
        state.withLock { state in
            for word in [code, now] { state.hash = (state.hash ^ word) &* 0x100_0000_01B3 }
            state.count += 1
            if keepsLines { state.lines.append("\(now / 1000 - 3_600_000_000) µs  \(line())") }
        }
    }

    /// Of every line's code and time.
    public var hash: UInt64 { state.withLock { $0.hash } }
    /// Lines so far.
    public var count: Int { state.withLock { $0.count } }
    /// The lines, where they are kept.
    public var lines: [String] { state.withLock { $0.lines } }
}
