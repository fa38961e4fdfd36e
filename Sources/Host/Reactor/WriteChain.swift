// Several writes to one file in one system call: a ring of its own, whose entries are linked, so that each begins when
// the one before has succeeded, and none is left under way. For devices that take whole packets: whoever is woken by
// the first of them runs when all are written and not between two of them, which would cost two switches a packet where
// both share a processor.

import CUring
import Glibc
import LinuxSystem
import SharedMemory

/// A chain of writes. Used by one thread at a time.
@safe
package struct WriteChain: ~Copyable {
    private var uring: Uring
    /// It belongs to the thread that enabled it.
    private var isEnabled = false
    /// It may hold what was not written.
    private var isSpoilt = false
    private let entries: UInt32
    private let completions: UnsafeMutablePointer<Completion>

    /// A chain of at most `entries` writes. Throws what the kernel says when it gives no ring.
    package init(entries: UInt32) throws(Errno) {
        uring = try Uring(entries: entries)
        self.entries = entries
        // SAFETY: room for a batch, initialized whole and freed by `deinit`; nothing after it fails.
        unsafe completions = .allocate(capacity: Uring.batch)
        unsafe completions.initialize(repeating: Completion(), count: Uring.batch)
    }

    // SAFETY: this value's own, used by its own functions only; a completion owns nothing.
    deinit { unsafe completions.deallocate() }

    /// Writes, for each element of `results`, what is left in one of `lists`, from `lists[first]` on, in order. Each
    /// result is the number of bytes written or a negated errno, `-EAGAIN` if there was no room; behind the first that
    /// failed all are `-ECANCELED`, and nothing of those was written. Never waits; a file that cannot be written
    /// without that says `-EOPNOTSUPP`.
    ///
    /// Throws if the kernel does not take the chain; how much of it was written is not known then.
    package mutating func write(
        _ file: Descriptor, _ lists: [VectorList], from first: Int, _ results: inout [Int32]
    ) throws(Errno) {
        precondition(results.count <= Int(entries), "a chain longer than its ring")
        try start()
        // SAFETY: the caller keeps vectors, memory and file for the call, and the kernel has done with them when every
        // result is there, which `collect` waits for. After an error it may not have: the memory is only read, and the
        // next ring is another.
        do throws(Errno) {
            try prepare(file, lists, first, results.count)
            do throws(Errno) { try collect(&results) } catch {
                guard error == Errno(EEXIST) else { throw error }
                // Another thread's, which has taken nothing of it. (Which thread it is would have to be asked of the
                // kernel each time: a thread that has ended and one that begins may have one name.)
                isSpoilt = true
                try start()
                try prepare(file, lists, first, results.count)
                try collect(&results)
            }
        } catch {
            isSpoilt = true
            throw error
        }
    }

    private func prepare(_ file: Descriptor, _ lists: [VectorList], _ first: Int, _ count: Int) throws(Errno) {
        for index in 0..<count {
            var entry = SubmissionEntry()
            // SAFETY: the entry is this function's own and copied by `push`; the lists are the caller's until the
            // results are there.
            let list = lists[first + index]
            unsafe entry.prepare { sqe in
                unsafe io_uring_prep_writev(sqe, file.rawValue, list.vectors, UInt32(list.left), 0)
                unsafe sqe.pointee.user_data = UInt64(index)
                // Without it the kernel waits for room, on a non-blocking file, too.
                unsafe sqe.pointee.rw_flags = RWF_NOWAIT
                if index + 1 < count { unsafe sqe.pointee.flags |= UInt8(1 << IOSQE_IO_LINK_BIT) }
            }
            guard uring.push(entry.raw) else { throw Errno(ENOSPC) }
        }
    }

    /// Submits what is prepared and waits for every result, which is there at once where nothing has to wait.
    private func collect(_ results: inout [Int32]) throws(Errno) {
        var left = results.count
        while left > 0 {
            let result = uring.submitAndWait(count: UInt32(left))
            if result < 0 && result != -EINTR { throw Errno(-result) }
            // SAFETY: room for a batch, of which `reap` fills the first `count`.
            let count = unsafe uring.reap(into: completions)
            for index in 0..<count {
                let completion = unsafe completions[index]
                results[Int(completion.userData)] = completion.result
            }
            left -= count
        }
    }

    /// Makes the ring the calling thread's, and a new one if it must not be used again.
    private mutating func start() throws(Errno) {
        if isSpoilt {
            uring = try Uring(entries: entries)
            isSpoilt = false
            isEnabled = false
        }
        if isEnabled { return }
        try uring.enable()
        isEnabled = true
    }
}
