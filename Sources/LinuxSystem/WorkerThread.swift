// A named thread. Data paths and control loops own their state on one; actors would cost a thousand times a ring's request.

import CLinux
import Glibc

/// A running thread that is joined exactly once.
@safe
public final class WorkerThread: @unchecked Sendable {
    private let handle: pthread_t

    private final class Start {
        let name: String
        let body: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }

    /// Starts `body` on a thread called `name` (15 bytes of it, as `top -H` shows).
    public init(name: String, _ body: @escaping @Sendable () -> Void) throws(Errno) {
        var thread = pthread_t()
        let start = unsafe Unmanaged.passRetained(Start(name: name, body: body))
        // SAFETY: the entry takes the one retain that is passed to it; on failure it is taken back here.
        let result = unsafe pthread_create(&thread, nil, { unsafe workerThreadEntry($0) }, start.toOpaque())
        guard result == 0 else {
            unsafe start.release()
            throw Errno(result)
        }
        handle = thread
    }

    /// Waits for the thread's end. Call once.
    public func join() { _ = pthread_join(handle, nil) }

    fileprivate static func run(_ argument: UnsafeMutableRawPointer?) {
        guard let argument = unsafe argument else { return }
        let start = unsafe Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
        _ = unsafe causeway_set_thread_name(start.name)
        start.body()
    }
}

/// A nonisolated entry: a closure would inherit the isolation of whoever makes the thread and trap on another.
private func workerThreadEntry(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    unsafe WorkerThread.run(argument)
    return nil
}
