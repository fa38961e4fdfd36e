// A thread for what takes its time: the system calls that io_uring cannot make (secure discard, and discard on kernels
// before 6.12), scripts. One at a time, in order.

import Synchronization

/// Runs jobs on a thread that exists only while there are any.
public final class BlockingWorker: Sendable {
    private struct State {
        var jobs: [@Sendable (Bool) -> Void] = []
        var isRunning = false
    }
    private let state = Mutex(State())
    private let name: String

    /// A worker with nothing to do; the thread is called `name`.
    public init(name: String) { self.name = name }

    /// Runs `job` with true on the thread after those before it, or with false here if no thread could be made.
    public func run(_ job: @escaping @Sendable (Bool) -> Void) {
        let mustStart = state.withLock { state in
            state.jobs.append(job)
            if state.isRunning { return false }
            state.isRunning = true
            return true
        }
        if !mustStart { return }
        if (try? startDetachedThread(name: name) { self.work() }) != nil { return }
        let stranded = state.withLock { state in
            let jobs = state.jobs
            state = State()
            return jobs
        }
        for job in stranded { job(false) }
    }

    private func work() {
        while true {
            let job: (@Sendable (Bool) -> Void)? = state.withLock { state in
                if state.jobs.isEmpty {
                    state.isRunning = false
                    return nil
                }
                return state.jobs.removeFirst()
            }
            guard let job else { return }
            job(true)
        }
    }
}
