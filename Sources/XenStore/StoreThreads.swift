// A thread that can be joined, and state that threads wait on. Control paths only.

import Glibc
import LinuxSystem

/// A thread of its own, joined once.
final class StoreThread: @unchecked Sendable {
    private let thread: pthread_t

    /// Starts `body` with every signal blocked, so that the process's signals go to its own threads.
    init(_ body: @escaping @Sendable () -> Void) throws(Errno) {
        // SAFETY: the box is retained here and released by the thread that takes it, or below if there is none.
        let box = unsafe Unmanaged.passRetained(ThreadBody(body))
        var handle = pthread_t()
        var all = sigset_t()
        var before = sigset_t()
        unsafe sigfillset(&all)
        unsafe pthread_sigmask(SIG_BLOCK, &all, &before)
        let result = unsafe pthread_create(&handle, nil, storeThreadEntry, box.toOpaque())
        unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
        guard result == 0 else {
            unsafe box.release()
            throw Errno(result)
        }
        thread = handle
    }

    /// Waits for the thread's end. Once only.
    func join() { _ = pthread_join(thread, nil) }
}

private final class ThreadBody: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}

private nonisolated func storeThreadEntry(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument = unsafe argument else { return nil }
    unsafe Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().body()
    return nil
}

/// State under a lock that threads can wait on to change (a mutex and a condition variable; `Mutex` has no waiting).
@safe final class Monitor<State>: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var state: State

    init(_ state: State) {
        // SAFETY: both live at fixed addresses from here to deinit, as pthread requires.
        unsafe mutex = .allocate(capacity: 1)
        unsafe condition = .allocate(capacity: 1)
        self.state = state
        unsafe pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        unsafe pthread_condattr_init(&attributes)
        unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        unsafe pthread_cond_init(condition, &attributes)
        unsafe pthread_condattr_destroy(&attributes)
    }

    deinit {
        unsafe pthread_cond_destroy(condition)
        unsafe pthread_mutex_destroy(mutex)
        unsafe condition.deallocate()
        unsafe mutex.deallocate()
    }

    /// Runs `body` alone, then wakes whoever waits.
    func change<R, E: Error>(_ body: (inout State) throws(E) -> R) throws(E) -> R {
        unsafe pthread_mutex_lock(mutex)
        defer {
            unsafe pthread_cond_broadcast(condition)
            unsafe pthread_mutex_unlock(mutex)
        }
        return try body(&state)
    }

    /// Calls `body` until it returns something, sleeping between changes; nil when `deadline` (nanoseconds of the monotonic
    /// clock; nil: never) has passed.
    func wait<R, E: Error>(until deadline: UInt64? = nil, _ body: (inout State) throws(E) -> R?) throws(E) -> R? {
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        while true {
            if let result = try body(&state) { return result }
            guard let deadline else {
                unsafe pthread_cond_wait(condition, mutex)
                continue
            }
            var time = timespec(tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
            if unsafe pthread_cond_timedwait(condition, mutex, &time) == ETIMEDOUT { return try body(&state) }
        }
    }
}
