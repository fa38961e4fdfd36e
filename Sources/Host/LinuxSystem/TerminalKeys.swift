// Keys of a terminal, one by one.

import Glibc

/// Standard input as a terminal that gives each key at once and shows none, for as long as this is there, or until the
/// process is asked to end.
package final class TerminalKeys {
    private let before: termios

    /// nil: it is no terminal.
    package init?() {
        var attributes = termios()
        // SAFETY: the kernel fills in the one structure.
        guard isatty(STDIN_FILENO) == 1, unsafe tcgetattr(STDIN_FILENO, &attributes) == 0 else { return nil }
        before = attributes
        attributes.c_lflag &= ~tcflag_t(ICANON | ECHO)
        Self.set(attributes)
        // Interrupted, it leaves the terminal as it was.
        Signals.block(Signals.termination)
        let kept = before
        try? Signals.onTermination {
            Self.set(kept)
            _exit(130)
        }
    }

    deinit { Self.set(before) }

    private static func set(_ attributes: termios) {
        var attributes = attributes
        // SAFETY: the kernel reads the one structure.
        _ = unsafe tcsetattr(STDIN_FILENO, TCSANOW, &attributes)
    }

    /// Waits for a key; nil: none has come.
    package func next(milliseconds: Int32) -> UInt8? {
        var entries = [pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)]
        guard let ready = try? waitForEvents(&entries, milliseconds: milliseconds), ready > 0 else { return nil }
        return (try? StreamSocket.receive(STDIN_FILENO, capacity: 1, wait: true))?.first
    }
}
