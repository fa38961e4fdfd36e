// Several writes to one file in one system call: a ring of its own, whose entries are linked, so that each begins when the one before has
// succeeded, and none is left under way. For devices that take whole packets: whoever is woken by the first of them runs when all are written and
// not between two of them, which would cost two switches a packet where both share a processor.

import CUring
import Glibc
import LinuxSystem

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
        unsafe completions = .allocate(capacity: Uring.batch)
        unsafe completions.initialize(repeating: Completion(), count: Uring.batch)
    }

    deinit { unsafe completions.deallocate() }

    /// Writes, for each element of `results`, the vectors that `vectors` names for it, in order. Each result is the number of bytes written or a
    /// negated errno, `-EAGAIN` if there was no room; behind the first that failed all are `-ECANCELED`, and nothing of those was written. Never waits;
    /// a file that cannot be written without that says `-EOPNOTSUPP`.
    ///
    /// Throws if the kernel does not take the chain; how much of it was written is not known then.
    @unsafe
    package mutating func write(
        _ file: Descriptor, _ results: inout [Int32], _ vectors: (Int) -> (first: UnsafePointer<iovec>, count: Int)
    ) throws(Errno) {
        precondition(results.count <= Int(entries), "a chain longer than its ring")
        try start()
        do throws(Errno) {
            unsafe prepare(file, results.count, vectors)
            do throws(Errno) { try collect(&results) } catch {
                guard error == Errno(EEXIST) else { throw error }
                // Another thread's, which has taken nothing of it. (Which thread it is would have to be asked of the kernel each time: a
                // thread that has ended and one that begins may have one name.)
                isSpoilt = true
                try start()
                unsafe prepare(file, results.count, vectors)
                try collect(&results)
            }
        } catch {
            isSpoilt = true
            throw error
        }
    }

    private func prepare(
        _ file: Descriptor, _ count: Int, _ vectors: (Int) -> (first: UnsafePointer<iovec>, count: Int)
    ) {
        for index in 0..<count {
            var entry = SubmissionEntry()
            let list = unsafe vectors(index)
            unsafe entry.prepare { sqe in
                unsafe io_uring_prep_writev(sqe, file.rawValue, list.first, UInt32(list.count), 0)
                unsafe sqe.pointee.user_data = UInt64(index)
                // Without it the kernel waits for room, on a non-blocking file, too.
                unsafe sqe.pointee.rw_flags = RWF_NOWAIT
                if index + 1 < count { unsafe sqe.pointee.flags |= UInt8(1 << IOSQE_IO_LINK_BIT) }
            }
            guard uring.push(entry.raw) else { preconditionFailure("a ring smaller than its chain") }
        }
    }

    /// Submits what is prepared and waits for every result, which is there at once where nothing has to wait.
    private func collect(_ results: inout [Int32]) throws(Errno) {
        var left = results.count
        while left > 0 {
            let result = uring.submitAndWait(count: UInt32(left))
            if result < 0 && result != -EINTR { throw Errno(-result) }
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
