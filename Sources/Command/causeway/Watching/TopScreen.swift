// The terminal that `causeway top` draws on, and its keys.

import CommandSupport
import Glibc
import LinuxSystem

/// A terminal, if there is one, and a clock.
struct TopScreen {
    /// Whether there is one to draw on.
    let isTerminal = isatty(STDOUT_FILENO) == 1
    private let keys: TerminalKeys?

    init() { keys = isTerminal ? TerminalKeys() : nil }

    /// Begins a table where the one before was.
    func clear() { printLine("\u{1B}[H\u{1B}[J") }

    /// Waits for a key; nil: it is time.
    func wait(until end: ContinuousClock.Instant) -> Character? {
        let left: Double = (end - .now) / .milliseconds(1)
        guard left > 0 else { return nil }
        guard let keys else {
            usleep(UInt32(left * 1000))
            return nil
        }
        return keys.next(milliseconds: Int32(left.rounded(.up))).map { Character(Unicode.Scalar($0)) }
    }
}
