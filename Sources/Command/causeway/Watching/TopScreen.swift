// The terminal that `causeway top` draws on, and its keys.

import CommandSupport
import Glibc
import LinuxSystem

/// A terminal whose keys come one by one while this is there; without one, only a clock.
final class TopScreen {
    /// Whether there is one to draw on.
    let isTerminal = isatty(1) == 1
    /// How it was before; nil: its keys are not for us.
    private let before: termios?

    init() {
        var attributes = termios()
        // SAFETY: the kernel fills in the one structure, and reads it below.
        guard isTerminal, isatty(0) == 1, unsafe tcgetattr(0, &attributes) == 0 else {
            before = nil
            return
        }
        before = attributes
        attributes.c_lflag &= ~tcflag_t(ICANON | ECHO)
        _ = unsafe tcsetattr(0, TCSANOW, &attributes)
        // Interrupted, it leaves the terminal as it was.
        Signals.block(Signals.termination)
        let kept = before
        try? Signals.onTermination {
            Self.restore(kept)
            _exit(130)
        }
    }

    deinit { Self.restore(before) }

    private static func restore(_ attributes: termios?) {
        guard var attributes else { return }
        // SAFETY: the kernel reads the one structure.
        _ = unsafe tcsetattr(0, TCSANOW, &attributes)
    }

    /// Begins a table where the one before was.
    func clear() { printLine("\u{1B}[H\u{1B}[J") }

    /// Waits for a key; nil: it is time.
    func wait(until end: ContinuousClock.Instant) -> Character? {
        let left: Double = (end - .now) / .milliseconds(1)
        guard left > 0 else { return nil }
        guard before != nil else {
            usleep(UInt32(left * 1000))
            return nil
        }
        var entries = [pollfd(fd: 0, events: Int16(POLLIN), revents: 0)]
        guard let ready = try? waitForEvents(&entries, milliseconds: Int32(left.rounded(.up))), ready > 0,
            let bytes = try? StreamSocket.receive(0, capacity: 1, wait: true), let byte = bytes.first
        else { return nil }
        return Character(Unicode.Scalar(byte))
    }
}
