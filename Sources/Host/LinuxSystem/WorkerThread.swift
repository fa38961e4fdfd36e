// A named thread. Data paths and control loops own their state on one; actors would cost a thousand times a ring's
// request.

import CLinux
import Glibc

/// A running thread that is joined exactly once.
@safe
public final class WorkerThread: @unchecked Sendable {
    private let handle: pthread_t

    /// Starts `body` on a thread called `name` (15 bytes of it, as `top -H` shows).
    /// - Parameter blocksSignals: whether the process's signals all go to its other threads.
    public init(name: String, blocksSignals: Bool = false, _ body: @escaping @Sendable () -> Void) throws(Errno) {
        handle = try ThreadStart(name: name, body).begin(blocksSignals: blocksSignals)
    }

    /// Waits for the thread's end. Call once.
    public func join() { _ = pthread_join(handle, nil) }
}

/// Starts `body` on a thread that nobody joins.
package func startDetachedThread(name: String, _ body: @escaping @Sendable () -> Void) throws(Errno) {
    pthread_detach(try ThreadStart(name: name, body).begin())
}

/// What a new thread does.
private final class ThreadStart {
    private let name: String
    private let body: @Sendable () -> Void

    init(name: String, _ body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }

    func begin(blocksSignals: Bool = false) throws(Errno) -> pthread_t {
        var thread = pthread_t()
        var (all, before) = (sigset_t(), sigset_t())
        // SAFETY: the sets are this function's own; a thread begins with the mask of the one that starts it.
        if blocksSignals {
            unsafe sigfillset(&all)
            unsafe pthread_sigmask(SIG_BLOCK, &all, &before)
        }
        // SAFETY: the entry takes the one retain that is passed to it; on failure it is taken back here.
        let start = unsafe Unmanaged.passRetained(self)
        let result = unsafe pthread_create(&thread, nil, { unsafe threadEntry($0) }, start.toOpaque())
        if blocksSignals { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
        guard result == 0 else {
            unsafe start.release()
            throw Errno(result)
        }
        return thread
    }

    static func run(_ argument: UnsafeMutableRawPointer?) {
        // SAFETY: `begin` has retained it for this thread.
        guard let argument = unsafe argument else { return }
        let start = unsafe Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
        _ = unsafe causeway_set_thread_name(start.name)
        start.body()
    }
}

/// A nonisolated entry: a closure would inherit the isolation of whoever makes the thread and trap on another.
private nonisolated func threadEntry(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    // SAFETY: what `begin` passed.
    unsafe ThreadStart.run(argument)
    return nil
}
