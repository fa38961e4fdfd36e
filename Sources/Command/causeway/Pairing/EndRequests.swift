// What asks a pair to end. A thread of its own hears it: the pair's own thread may be in the midst of an exchange with
// a host that stands still, and would not hear anything before the host goes on.

import CommandSupport
import Glibc
import LinuxSystem
import Synchronization

/// Termination signals, in order, for the thread that takes them.
final class EndRequests: Sendable {
    private struct State {
        var signals: [Int32] = []
        var isAsked = false
        var host: ChildProcess?
        var lastStep = ContinuousClock.now
    }
    private let state = Mutex(State())

    /// Longer than any step of a pair that goes on takes once it is asked to end.
    private static let patience = Duration.seconds(8)

    /// Listens from now on; the signals, and SIGCHLD, must be blocked before any thread starts.
    init() throws(Failure) {
        do throws(Errno) {
            _ = try WorkerThread(name: "signals") { self.listen() }
        } catch { throw Failure("pair: cannot start a thread: \(error)") }
    }

    private func listen() {
        while true {
            let signal = Signals.wait(for: Signals.termination, milliseconds: 500)
            state.withLock { state in
                if let signal {
                    state.signals.append(signal)
                    if !state.isAsked { state.lastStep = .now }
                    state.isAsked = true
                } else if state.isAsked, ContinuousClock.now - state.lastStep > Self.patience {
                    // Whoever waits for its answer gets none, and goes on to the pair's end.
                    state.host?.signal(SIGKILL)
                }
            }
            // Wakes a thread that waits for children as well.
            if signal != nil { kill(getpid(), SIGCHLD) }
        }
    }

    /// The next signal; nil: none since the last.
    func take() -> Int32? {
        state.withLock { state in
            state.lastStep = .now
            return state.signals.isEmpty ? nil : state.signals.removeFirst()
        }
    }

    /// Says that the pair goes on.
    func step() { state.withLock { $0.lastStep = .now } }

    /// Whose answers the pair's thread waits for; nil: nobody's any more.
    func host(is host: ChildProcess?) { state.withLock { $0.host = host } }

    /// Waits for a signal or for a child's end, at most so long; the signal.
    func wait(milliseconds: Int) -> Int32? {
        if let signal = take() { return signal }
        _ = Signals.wait(for: [SIGCHLD], milliseconds: milliseconds)
        return take()
    }
}
