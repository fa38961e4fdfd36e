// State that threads wait on. Control paths only.

import Glibc

/// State under a lock that threads can wait on to change (a mutex and a condition variable; `Mutex` has no waiting).
@safe package final class Monitor<State>: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var state: State

    /// Puts `state` under the lock.
    package init(_ state: State) {
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
        // SAFETY: whoever waits or holds the lock has a reference to self, so nobody does any more.
        unsafe pthread_cond_destroy(condition)
        unsafe pthread_mutex_destroy(mutex)
        unsafe condition.deallocate()
        unsafe mutex.deallocate()
    }

    /// Runs `body` alone, then wakes whoever waits.
    package func change<R, E: Error>(_ body: (inout State) throws(E) -> R) throws(E) -> R {
        // SAFETY: both live as long as self; the state is touched only between lock and unlock.
        unsafe pthread_mutex_lock(mutex)
        defer {
            unsafe pthread_cond_broadcast(condition)
            unsafe pthread_mutex_unlock(mutex)
        }
        return try body(&state)
    }

    /// Calls `body` until it returns something, sleeping between changes; nil when `deadline` (a `kernelDeadline`; nil:
    /// never) has passed.
    package func wait<R, E: Error>(until deadline: UInt64? = nil, _ body: (inout State) throws(E) -> R?) throws(E) -> R? {
        // SAFETY: both live as long as self; the state is touched only with the lock held; waiting lets go of it and
        // takes it again.
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

    /// As `wait(until:)`, for so long from now on.
    package func wait<R, E: Error>(
        milliseconds: Int, _ time: some TimeSource, _ body: (inout State) throws(E) -> R?
    ) throws(E) -> R? {
        try wait(until: time.kernelDeadline(milliseconds: milliseconds), body)
    }
}
