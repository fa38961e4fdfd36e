// The io_uring itself: set-up, entries in, completions out. Knows nothing of clients. All of liburing's pointers stay in here.

import CUring
import Glibc
import LinuxSystem

/// One completion, copied out of the ring before its place is given back.
struct Completion {
    var userData: UInt64 = 0
    var result: Int32 = 0
    var flags: UInt32 = 0
}

/// An io_uring used by one thread. Made disabled: the thread that calls `enable` becomes its only submitter.
@safe
struct Uring: ~Copyable {
    let raw: UnsafeMutablePointer<io_uring>
    private let pointers: UnsafeMutablePointer<UnsafeMutablePointer<io_uring_cqe>?>
    /// Most completions taken in one `reap`.
    static let batch = 64

    /// Sets a ring up with `entries` submission entries (rounded up to a power of two, and down to what the kernel allows).
    init(entries: UInt32) throws(Errno) {
        unsafe raw = .allocate(capacity: 1)
        unsafe raw.initialize(to: io_uring())
        unsafe pointers = .allocate(capacity: Self.batch)
        unsafe pointers.initialize(repeating: nil, count: Self.batch)
        let common = IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP
        // From the newest kernel's manners to the oldest. Deferred task work (6.1) runs completions only when we ask, on our
        // thread; cooperative (5.19) at least sends no interrupts; submit-all goes on after an entry that fails.
        let choices: [UInt32] = [
            common | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
            common | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
            common,
        ]
        var result: Int32 = -EINVAL
        for flags in choices {
            var parameters = io_uring_params()
            parameters.flags = flags
            result = unsafe io_uring_queue_init_params(entries, raw, &parameters)
            if result != -EINVAL { break }
        }
        // SAFETY: the allocations are freed here because a throwing initializer runs no deinit.
        if result < 0 {
            unsafe raw.deallocate()
            unsafe pointers.deallocate()
            throw Errno(-result)
        }
    }

    deinit {
        unsafe io_uring_queue_exit(raw)
        unsafe raw.deallocate()
        unsafe pointers.deallocate()
    }

    /// Makes the calling thread the ring's submitter. Idempotent on that thread.
    func enable() throws(Errno) {
        // liburing 2.3 declares io_uring_enable_rings and does not export it.
        let result = unsafe io_uring_register(UInt32(raw.pointee.ring_fd), UInt32(IORING_REGISTER_ENABLE_RINGS), nil, 0)
        // EBADFD: enabled already.
        if result < 0 && result != -EBADFD { throw Errno(-result) }
    }

    /// Spares each enter a look-up of the descriptor; where it cannot be had nothing is lost. The registration is in the calling
    /// thread's table, so it must be given back there: `io_uring_queue_exit` on another thread would remove that thread's.
    func enterThread() { _ = unsafe io_uring_register_ring_fd(raw) }

    /// Undoes `enterThread`.
    func leaveThread() { _ = unsafe io_uring_unregister_ring_fd(raw) }

    /// Entries prepared and not yet taken by the kernel.
    var unsubmitted: UInt32 { unsafe io_uring_sq_ready(raw) }

    /// Puts an entry into the ring; false if the ring is full.
    @inline(__always)
    func push(_ entry: borrowing io_uring_sqe) -> Bool {
        guard let place = unsafe io_uring_get_sqe(raw) else { return false }
        unsafe place.pointee = copy entry
        return true
    }

    /// Gives everything prepared to the kernel and lets it post what has completed; does not wait.
    func submit() -> Int32 { unsafe io_uring_submit_and_get_events(raw) }

    /// The same, then sleeps until a completion is there, a signal arrives, or `nanoseconds` have passed (nil: no limit).
    func submitAndWait(nanoseconds: UInt64?) -> Int32 {
        guard let nanoseconds else { return unsafe io_uring_submit_and_wait(raw, 1) }
        var time = __kernel_timespec()
        time.tv_sec = Int64(clamping: nanoseconds / 1_000_000_000)
        time.tv_nsec = Int64(nanoseconds % 1_000_000_000)
        var first: UnsafeMutablePointer<io_uring_cqe>?
        return unsafe io_uring_submit_and_wait_timeout(raw, &first, 1, &time, nil)
    }

    /// Gives everything prepared to the kernel, then sleeps until `count` completions are there or a signal arrives.
    func submitAndWait(count: UInt32) -> Int32 { unsafe io_uring_submit_and_wait(raw, count) }

    /// Moves at most `Uring.batch` completions into `buffer`; returns how many. Enters the kernel only if it says that it holds some back.
    @inline(__always)
    func reap(into buffer: UnsafeMutablePointer<Completion>) -> Int {
        let count = unsafe io_uring_peek_batch_cqe(raw, pointers, UInt32(Self.batch))
        if count == 0 { return 0 }
        for index in 0..<Int(count) {
            guard let entry = unsafe pointers[index] else { continue }
            unsafe buffer[index] = Completion(
                userData: entry.pointee.user_data, result: entry.pointee.res, flags: entry.pointee.flags)
        }
        unsafe io_uring_cq_advance(raw, count)
        return Int(count)
    }
}
