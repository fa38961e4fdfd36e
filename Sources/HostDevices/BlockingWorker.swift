// A thread for what takes its time: the system calls that io_uring cannot make (secure discard, and discard on kernels before 6.12), scripts.
// One at a time, in order.

import CLinux
import Glibc
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
        var thread = pthread_t()
        let context = unsafe Unmanaged.passRetained(self).toOpaque()
        if unsafe pthread_create(&thread, nil, workerThread, context) == 0 {
            pthread_detach(thread)
            return
        }
        unsafe Unmanaged<BlockingWorker>.fromOpaque(context).release()
        let stranded = state.withLock { state in
            let jobs = state.jobs
            state = State()
            return jobs
        }
        for job in stranded { job(false) }
    }

    fileprivate func work() {
        _ = unsafe causeway_set_thread_name(name)
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

private func workerThread(_ context: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let context = unsafe context else { return nil }
    unsafe Unmanaged<BlockingWorker>.fromOpaque(context).takeRetainedValue().work()
    return nil
}
