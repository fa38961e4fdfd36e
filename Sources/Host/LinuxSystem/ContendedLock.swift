// A lock for state that many threads fight over. Synchronization.Mutex is a priority-inheriting futex on Linux: when it
// is contended the kernel hands it from waiter to waiter, one context switch each, and a queue shared by 32 threads ran
// at an eighth of the speed it has with this one. Where a lock is hardly ever contended, Mutex is the better choice: it
// needs no allocation.

import Glibc

/// A plain pthread mutex around a value.
@safe
public final class ContendedLock<Value: ~Copyable>: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private var value: Value

    /// Puts `value` under a lock.
    public init(_ value: consuming sending Value) {
        // SAFETY: it lives at one address from here to deinit, as pthread requires.
        unsafe mutex = .allocate(capacity: 1)
        unsafe mutex.initialize(to: pthread_mutex_t())
        let result = unsafe pthread_mutex_init(mutex, nil)
        precondition(result == 0, "pthread_mutex_init: \(Errno(result))")
        self.value = value
    }

    deinit {
        // SAFETY: whoever waits or holds the lock has a reference to self, so nobody does any more.
        _ = unsafe pthread_mutex_destroy(mutex)
        unsafe mutex.deallocate()
    }

    /// Runs `body` with the value to itself.
    public func withLock<R: ~Copyable, E: Error>(_ body: (inout Value) throws(E) -> R) throws(E) -> R {
        // SAFETY: the mutex lives as long as self; `value` is touched only between lock and unlock.
        _ = unsafe pthread_mutex_lock(mutex)
        defer { _ = unsafe pthread_mutex_unlock(mutex) }
        return try body(&value)
    }
}
