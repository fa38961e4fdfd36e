// Signals as values: blocked everywhere, taken by whoever waits for them. No handler ever runs.

import Glibc

/// What a process does about signals.
///
/// SAFETY: every set, time and number that a call is given here is a variable of the function that calls; no call keeps
/// any.
package enum Signals {
    /// What asks a process to end. SIGQUIT is one of them, as in nbdkit: what was started and made is cleared away
    /// first, which whoever types ^\ wants no less. Asked twice, a process ends at once.
    package static let termination: [Int32] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]

    /// SIGQUIT does again what it does in any program. Swift's runtime takes it for a crash and prints a report of it.
    package static func quitQuietly() {
        var current = sigaction()
        // SAFETY: the call fills in the structure; the handler is compared, not called.
        guard unsafe sigaction(SIGQUIT, nil, &current) == 0 else { return }
        let isIgnored = unsafe unsafeBitCast(current.__sigaction_handler.sa_handler, to: Int.self) == 1
        if !isIgnored { _ = signal(SIGQUIT, SIG_DFL) }
    }

    /// A reader that went away is an error of `write`, not the end of the process, unless the program has already
    /// decided what to do about it. MSG_NOSIGNAL is for sockets only, and there are pipes.
    package static func ignoreBrokenPipes() {
        var current = sigaction()
        // SAFETY: the call fills in the structure; the handler is compared, not called.
        guard unsafe sigaction(SIGPIPE, nil, &current) == 0 else { return }
        let isDefault = unsafe current.__sigaction_handler.sa_handler == nil
        if isDefault { _ = signal(SIGPIPE, SIG_IGN) }
    }

    /// Keeps `signals` pending for `wait`; to be called before any thread starts, since threads inherit it.
    package static func block(_ signals: [Int32]) {
        var set = makeSet(signals)
        _ = unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// Blocks nothing: what a program expects that this process becomes. Whoever started us may have had signals
    /// blocked.
    package static func unblockAll() {
        var nothing = makeSet([])
        _ = unsafe pthread_sigmask(SIG_SETMASK, &nothing, nil)
    }

    /// Takes one of `signals` (all blocked before), waiting at most `milliseconds`; nil if none came.
    package static func wait(for signals: [Int32], milliseconds: Int) -> Int32? {
        var set = makeSet(signals)
        var time = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
        let number = unsafe sigtimedwait(&set, nil, &time)
        return number > 0 ? number : nil
    }

    /// Sends this process a signal, as anybody else could: whoever waits for it hears of it.
    package static func raise(_ signal: Int32) { _ = kill(getpid(), signal) }

    /// Calls `stop` from a thread of its own when the process is asked to end, once; asked twice, the process ends
    /// there and then. The signals must be blocked before any thread starts.
    package static func onTermination(_ stop: @escaping @Sendable () -> Void) throws(Errno) {
        _ = try WorkerThread(name: "signals") {
            _ = waitForever(for: termination)
            stop()
            _exit(128 + waitForever(for: termination))
        }
    }

    /// Waits until one of them comes, which must be blocked.
    package static func waitForever(for signals: [Int32]) -> Int32 {
        var set = makeSet(signals)
        var number: Int32 = 0
        _ = unsafe sigwait(&set, &number)
        return number
    }

    /// The signals as the kernel takes them.
    static func makeSet(_ signals: [Int32]) -> sigset_t {
        var set = sigset_t()
        unsafe sigemptyset(&set)
        for signal in signals { unsafe sigaddset(&set, signal) }
        return set
    }
}
