// Operations of BlockDevices without memory, and what all operations have in common.

import CUring
import Glibc
import LinuxSystem

/// One entry, filled outside the ring, so that a full ring needs no special case.
@safe
struct SubmissionEntry {
    var raw = io_uring_sqe()

    // SAFETY: lends the entry for the call only; liburing's helpers write its words and keep nothing.
    @inline(__always)
    mutating func prepare(_ body: (UnsafeMutablePointer<io_uring_sqe>) -> Void) {
        unsafe withUnsafeMutablePointer(to: &raw) { unsafe body($0) }
    }
}

extension Reactor {
    /// Makes the file's data durable, and its metadata too unless `dataOnly`.
    package func beginSync(_ file: ReactorFile, dataOnly: Bool, _ slot: ReactorSlot, tag: UInt32) {
        // SAFETY: names no memory.
        unsafe begin(file, slot, tag) { unsafe io_uring_prep_fsync($0, $1, dataOnly ? IORING_FSYNC_DATASYNC : 0) }
    }

    /// `fallocate(2)` with `mode`; the kernel always runs it on a worker of its own.
    package func beginAllocate(
        _ file: ReactorFile, mode: Int32, at offset: UInt64, byteCount: UInt64, _ slot: ReactorSlot, tag: UInt32
    ) {
        // SAFETY: names no memory.
        unsafe begin(file, slot, tag) {
            unsafe io_uring_prep_fallocate($0, $1, mode, off_t(truncatingIfNeeded: offset), off_t(truncatingIfNeeded: byteCount))
        }
    }

    /// Discards on a block device (`BLOCK_URING_CMD_DISCARD`, Linux 6.12; before, it ends with EOPNOTSUPP or EINVAL).
    package func beginBlockDiscard(
        _ file: ReactorFile, at offset: UInt64, byteCount: UInt64, _ slot: ReactorSlot, tag: UInt32
    ) {
        // SAFETY: names no memory: what is put into the entry's address is an offset. The entry is there during the
        // closure.
        unsafe begin(file, slot, tag) { entry, descriptor in
            unsafe io_uring_prep_rw(Int32(bitPattern: IORING_OP_URING_CMD.rawValue), entry, descriptor, nil, 0, 0)
            // `_IO(0x12, 0)`, linux/blkdev.h: the address is the start, addr3 the length.
            unsafe entry.pointee.off = 0
            unsafe entry.pointee.cmd_op = 0x12 << 8
            unsafe entry.pointee.addr = offset
            unsafe entry.pointee.addr3 = byteCount
        }
    }

    /// Asks the kernel to end an operation early; it completes in any case, with ECANCELED if that worked.
    package func cancel(_ slot: ReactorSlot, tag: UInt32) {
        let target = UserData(.operation, slot, tag: tag)
        var entry = SubmissionEntry()
        // SAFETY: fills in the entry's words; the target is a number to the kernel.
        unsafe entry.prepare { unsafe io_uring_prep_cancel64($0, target.rawValue, 0) }
        push(entry, UserData(.ignored, slot, tag: 0))
    }

    /// Counts an operation that runs elsewhere (a helper thread) and ends with `finishExternal`.
    package func beginExternal(_ slot: ReactorSlot) {
        seats[slot.index].inFlight += 1
        inFlightTotal += 1
    }

    /// Completes an operation that runs elsewhere; from any thread.
    package func finishExternal(_ slot: ReactorSlot, tag: UInt32, result: Int32) {
        post { self.finish(slot: slot.index, generation: slot.generation, tag: tag, result: result) }
    }

    @inline(__always)
    func begin(
        _ file: ReactorFile, _ slot: ReactorSlot, _ tag: UInt32, _ prepare: (UnsafeMutablePointer<io_uring_sqe>, Int32) -> Void
    ) {
        var entry = SubmissionEntry()
        // SAFETY: the entry is this function's own, and lent for the closure. What the kernel gets is the copy that
        // `push` makes.
        unsafe entry.prepare { sqe in
            unsafe prepare(sqe, file.number)
            if file.isFixed { unsafe sqe.pointee.flags |= UInt8(1 << IOSQE_FIXED_FILE_BIT) }
        }
        let seat = seats[slot.index]
        seat.inFlight += 1
        inFlightTotal += 1
        push(entry, UserData(.operation, slot, tag: tag))
    }

    /// Puts an entry into the ring, or behind it if it is full; the next enter takes both.
    @inline(__always)
    func push(_ entry: SubmissionEntry, _ data: UserData) {
        var entry = entry
        entry.raw.user_data = data.rawValue
        if overflow.isEmpty, uring.push(entry.raw) { return }
        overflow.append(entry)
    }

    func drainOverflow() {
        if overflow.isEmpty { return }
        var moved = 0
        while moved < overflow.count, uring.push(overflow[moved].raw) { moved += 1 }
        overflow.removeFirst(moved)
    }
}
