// A benchmark that is ended before its end leaves nothing: no file in memory, no directory, no process.

import CommandSupport
import Glibc
import LinuxSystem
import Synchronization

/// What a benchmark undoes when it is asked to end.
package enum EarlyEnd {
    private static let undone = Mutex<[@Sendable () -> Void]>([])
    private static let isAsked = Atomic<Bool>(false)

    /// Runs a benchmark. Meanwhile SIGTERM, SIGINT and SIGHUP end this process in order: its children, then what it
    /// made, the last first. For a process that has no other threads yet, which would take the signals.
    package static func covering(_ benchmark: () throws -> Void) throws {
        Signals.block(Signals.termination)
        do throws(Errno) { _ = try WorkerThread(name: "signals") { end(after: waitForRequest()) } } catch {
            throw Failure("bench: cannot start a thread: \(error)")
        }
        do { try benchmark() } catch {
            // Its children are being ended: that is what failed, and no news.
            while isAsked.load(ordering: .acquiring) { pause() }
            throw error
        }
    }

    private static func waitForRequest() -> Int32 {
        while true {
            if let signal = Signals.wait(for: Signals.termination, milliseconds: 1_000_000) { return signal }
        }
    }

    private static func end(after signal: Int32) {
        isAsked.store(true, ordering: .releasing)
        ChildProcess.endAll(milliseconds: 3000, SystemTime())
        // Kept locked: nothing more is made.
        undone.withLock { all in
            for undo in all.reversed() { undo() }
            _exit(128 + signal)
        }
    }

    /// Runs `make`, whose work `undo` takes back if the process is asked to end, even if that has been done already.
    static func undoing<R: Sendable>(_ undo: @escaping @Sendable () -> Void, _ make: () throws(Failure) -> R) throws(Failure) -> R {
        try undone.withLock { all throws(Failure) in
            all.append(undo)
            return try make()
        }
    }

    /// A directory for sockets and records.
    static func makeDirectory() throws(Failure) -> PairDirectory {
        try undone.withLock { all throws(Failure) in
            let directory = try PairDirectory(given: nil)
            all.append { directory.remove() }
            return directory
        }
    }

    /// Removes such a directory at a benchmark's own end; never at once with `end`.
    static func remove(_ directory: PairDirectory) { undone.withLock { _ in directory.remove() } }
}
