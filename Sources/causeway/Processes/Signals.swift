// Signals as values: blocked everywhere, taken by whoever waits for them. No handler ever runs.

import Glibc
import LinuxSystem

enum Signals {
    /// What asks a process to end.
    static let termination: [Int32] = [SIGINT, SIGTERM, SIGHUP]

    /// A reader that went away is an error of `write`, not the end of the process.
    static func ignoreBrokenPipes() { _ = signal(SIGPIPE, SIG_IGN) }

    /// Keeps `signals` pending for `wait`; to be called before any thread starts, since threads inherit it.
    static func block(_ signals: [Int32]) {
        var set = makeSet(signals)
        _ = unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// Blocks nothing: what a program expects that this process becomes. Whoever started us may have had signals blocked.
    static func unblockAll() {
        var nothing = makeSet([])
        _ = unsafe pthread_sigmask(SIG_SETMASK, &nothing, nil)
    }

    /// Takes one of `signals` (all blocked before), waiting at most `milliseconds`; nil if none came.
    static func wait(for signals: [Int32], milliseconds: Int) -> Int32? {
        var set = makeSet(signals)
        var time = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
        let number = unsafe sigtimedwait(&set, nil, &time)
        return number > 0 ? number : nil
    }

    /// Calls `stop` from a thread of its own when the process is asked to end, once; asked twice, the process ends there and then.
    /// The signals must be blocked before any thread starts.
    static func onTermination(_ stop: @escaping @Sendable () -> Void) throws(Failure) {
        do {
            _ = try WorkerThread(name: "signals") {
                _ = waitForever(for: termination)
                stop()
                _exit(128 + waitForever(for: termination))
            }
        } catch { throw Failure("cannot start a thread: \(error)") }
    }

    private static func waitForever(for signals: [Int32]) -> Int32 {
        var set = makeSet(signals)
        var number: Int32 = 0
        _ = unsafe sigwait(&set, &number)
        return number
    }

    static func makeSet(_ signals: [Int32]) -> sigset_t {
        var set = sigset_t()
        unsafe sigemptyset(&set)
        for signal in signals { unsafe sigaddset(&set, signal) }
        return set
    }
}
