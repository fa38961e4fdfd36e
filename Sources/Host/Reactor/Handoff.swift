// One value from one thread to another that waits for it.

import Glibc
import Synchronization

/// A one-shot box with a semaphore.
@safe
public final class Handoff<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    private let semaphore: SemaphoreBox

    /// Empty.
    public init() { semaphore = SemaphoreBox() }

    /// Puts the value in; once.
    public func deliver(_ newValue: Value) {
        value.withLock { $0 = newValue }
        semaphore.post()
    }

    /// Waits for the value and takes it.
    public func wait() -> Value {
        while true {
            semaphore.wait()
            if let value = value.withLock({ $0 }) { return value }
        }
    }
}

/// `sem_t` at a stable address.
///
/// SAFETY: one allocation, made and initialized in `init`, which stays where it is until `deinit`. Whoever posts or
/// waits holds a reference, so that the semaphore is never destroyed under a call; a semaphore is made for many
/// threads.
@safe
final class SemaphoreBox: @unchecked Sendable {
    private let raw: UnsafeMutablePointer<sem_t>

    init() {
        unsafe raw = .allocate(capacity: 1)
        unsafe raw.initialize(to: sem_t())
        _ = unsafe sem_init(raw, 0, 0)
    }

    deinit {
        _ = unsafe sem_destroy(raw)
        unsafe raw.deallocate()
    }

    func post() { _ = unsafe sem_post(raw) }
    func wait() { while unsafe sem_wait(raw) != 0 {} }
}
