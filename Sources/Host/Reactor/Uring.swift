// The io_uring itself: set-up, entries in, completions out. Knows nothing of clients. All of liburing's pointers stay
// in here.

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
///
/// SAFETY: `raw` and `pointers` are allocations of this value's own, which cannot be copied, from `init` to `deinit`;
/// `raw` is a ring that liburing has set up, at the one address that it has had. liburing looks after the memory that
/// is shared with the kernel, for one thread at a time, and this value is no `Sendable`. What entries name is kept by
/// whoever pushes them.
@safe
struct Uring: ~Copyable {
    let raw: UnsafeMutablePointer<io_uring>
    private let pointers: UnsafeMutablePointer<UnsafeMutablePointer<io_uring_cqe>?>
    /// Most completions taken in one `reap`.
    static let batch = 64

    /// Sets a ring up with `entries` submission entries (rounded up to a power of two, and down to what the kernel
    /// allows).
    init(entries: UInt32) throws(Errno) {
        // SAFETY: both are this value's from here to `deinit`, initialized.
        // All that can fail comes first: an initializer that throws once every property is set does run `deinit`.
        unsafe raw = try Self.setUp(entries: entries)
        unsafe pointers = .allocate(capacity: Self.batch)
        unsafe pointers.initialize(repeating: nil, count: Self.batch)
    }

    /// A ring that is set up, owned by the caller; nothing is left of one that the kernel refuses.
    private static func setUp(entries: UInt32) throws(Errno) -> UnsafeMutablePointer<io_uring> {
        let raw = UnsafeMutablePointer<io_uring>.allocate(capacity: 1)
        unsafe raw.initialize(to: io_uring())
        let common = IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP
        // From the newest kernel's manners to the oldest. Deferred task work (6.1) runs completions only when we ask,
        // on our thread; cooperative (5.19) at least sends no interrupts; submit-all goes on after an entry that fails.
        let choices: [UInt32] = [
            common | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
            common | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
            common,
        ]
        var result: Int32 = -EINVAL
        for flags in choices {
            var parameters = io_uring_params()
            parameters.flags = flags
            // SAFETY: the kernel and liburing fill in both structures; on failure liburing keeps nothing of them.
            result = unsafe io_uring_queue_init_params(entries, raw, &parameters)
            if result != -EINVAL { break }
        }
        guard result >= 0 else {
            // SAFETY: nobody else has seen it.
            unsafe raw.deallocate()
            throw Errno(-result)
        }
        result = unsafe restrict(raw)
        guard result >= 0 else {
            // SAFETY: as above; the ring was set up.
            unsafe io_uring_queue_exit(raw)
            unsafe raw.deallocate()
            throw Errno(-result)
        }
        return unsafe raw
    }

    /// Leaves a ring, from when it is enabled on, nothing but what this module does with it: who can write entries into
    /// it opens no file by it, and makes no connection. 0, or a negative error number.
    private static func restrict(_ raw: UnsafeMutablePointer<io_uring>) -> Int32 {
        let operations = [
            IORING_OP_NOP, IORING_OP_READ, IORING_OP_READV, IORING_OP_WRITE, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE,
            IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE, IORING_OP_TIMEOUT, IORING_OP_ASYNC_CANCEL, IORING_OP_URING_CMD,
        ]
        let registrations = [
            IORING_REGISTER_ENABLE_RINGS, IORING_REGISTER_FILES2, IORING_REGISTER_FILES_UPDATE, IORING_REGISTER_RING_FDS,
            IORING_UNREGISTER_RING_FDS,
        ]
        var list = operations.map { operation in
            var entry = io_uring_restriction()
            entry.opcode = UInt16(IORING_RESTRICTION_SQE_OP)
            entry.sqe_op = UInt8(operation.rawValue)
            return entry
        }
        list += registrations.map { registration in
            var entry = io_uring_restriction()
            entry.opcode = UInt16(IORING_RESTRICTION_REGISTER_OP)
            entry.register_op = UInt8(registration)
            return entry
        }
        var flags = io_uring_restriction()
        flags.opcode = UInt16(IORING_RESTRICTION_SQE_FLAGS_ALLOWED)
        flags.sqe_flags = UInt8(1 << IOSQE_FIXED_FILE_BIT | 1 << IOSQE_IO_LINK_BIT)
        list.append(flags)
        func register(_ list: [io_uring_restriction]) -> Int32 {
            var list = list
            // SAFETY: the kernel copies the list during the call.
            return unsafe io_uring_register(
                UInt32(raw.pointee.ring_fd), UInt32(IORING_REGISTER_RESTRICTIONS), &list, UInt32(list.count))
        }
        let result = register(list)
        // A kernel that does not know the newest of them (5.19) has no use for its permission.
        return result == -EINVAL ? register(list.filter { $0.sqe_op != UInt8(IORING_OP_URING_CMD.rawValue) }) : result
    }

    deinit {
        // SAFETY: the ring was set up, or there would be no value; the kernel lets go of its memory before ours is
        // freed.
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

    /// Spares each enter a look-up of the descriptor; where it cannot be had nothing is lost. The registration is in
    /// the calling thread's table, so it must be given back there: `io_uring_queue_exit` on another thread would remove
    /// that thread's.
    func enterThread() { _ = unsafe io_uring_register_ring_fd(raw) }

    /// Undoes `enterThread`.
    func leaveThread() { _ = unsafe io_uring_unregister_ring_fd(raw) }

    /// Entries prepared and not yet taken by the kernel.
    var unsubmitted: UInt32 { unsafe io_uring_sq_ready(raw) }

    /// Puts an entry into the ring; false if the ring is full.
    @inline(__always)
    func push(_ entry: borrowing io_uring_sqe) -> Bool {
        // SAFETY: a free entry of the ring's, ours until the next submission; all of it is overwritten.
        guard let place = unsafe io_uring_get_sqe(raw) else { return false }
        unsafe place.pointee = copy entry
        return true
    }

    /// Gives everything prepared to the kernel and lets it post what has completed; does not wait.
    func submit() -> Int32 { unsafe io_uring_submit_and_get_events(raw) }

    /// The same, then sleeps until a completion is there, a signal arrives, or `nanoseconds` have passed (nil: no
    /// limit).
    func submitAndWait(nanoseconds: UInt64?) -> Int32 {
        guard let nanoseconds else { return unsafe io_uring_submit_and_wait(raw, 1) }
        var time = __kernel_timespec()
        time.tv_sec = Int64(clamping: nanoseconds / 1_000_000_000)
        time.tv_nsec = Int64(nanoseconds % 1_000_000_000)
        var first: UnsafeMutablePointer<io_uring_cqe>?
        // SAFETY: both are variables of this function, which the call fills in and reads; nobody looks at `first`.
        return unsafe io_uring_submit_and_wait_timeout(raw, &first, 1, &time, nil)
    }

    /// Gives everything prepared to the kernel, then sleeps until `count` completions are there or a signal arrives.
    func submitAndWait(count: UInt32) -> Int32 { unsafe io_uring_submit_and_wait(raw, count) }

    /// Moves at most `Uring.batch` completions into `buffer`, which has room for so many; returns how many. Enters the
    /// kernel only if it says that it holds some back.
    @inline(__always)
    func reap(into buffer: UnsafeMutablePointer<Completion>) -> Int {
        // SAFETY: at most a batch is asked for, and `pointers` has room for one. Each completion stays in the ring
        // until `advance`.
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
