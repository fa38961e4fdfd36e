// Operations with memory, for BlockDevices. Whoever begins one keeps the memory that is named, and what the list's
// vectors point to, until its completion came: a device's queue stays attached until then, and its requests and their
// flights with it.

import CUring
import Glibc
import LinuxSystem
import SharedMemory

extension Reactor {
    /// Bytes of one read or write; the rest is transferred by continuing.
    private static let mostBytes = 1 << 30

    /// Reads at `offset` into what is left of `vectors`, at most `VectorList.mostAtOnce` of them.
    package func beginRead(_ file: ReactorFile, _ vectors: VectorList, at offset: UInt64, _ slot: ReactorSlot, tag: UInt32) {
        // SAFETY: the list's vectors and what they name are kept until the completion, see above; the entry is filled
        // in and copied. One run needs no vector for the kernel to copy in.
        if let run = unsafe vectors.onlyRun {
            let count = UInt32(min(run.count, Self.mostBytes))
            return unsafe begin(file, slot, tag) { unsafe io_uring_prep_read($0, $1, run.baseAddress, count, offset) }
        }
        let count = UInt32(min(vectors.left, VectorList.mostAtOnce))
        unsafe begin(file, slot, tag) { unsafe io_uring_prep_readv($0, $1, vectors.vectors, count, offset) }
    }

    /// Writes what is left of `vectors`, at most `VectorList.mostAtOnce` of them, at `offset`.
    /// - Parameter isDurable: whether it is on stable storage when it is done (`RWF_DSYNC`).
    package func beginWrite(
        _ file: ReactorFile, _ vectors: VectorList, at offset: UInt64, isDurable: Bool = false, _ slot: ReactorSlot, tag: UInt32
    ) {
        let flags: Int32 = isDurable ? RWF_DSYNC : 0
        // SAFETY: as for reading.
        if let run = unsafe vectors.onlyRun {
            let count = UInt32(min(run.count, Self.mostBytes))
            return unsafe begin(file, slot, tag) { sqe, number in
                unsafe io_uring_prep_write(sqe, number, run.baseAddress, count, offset)
                unsafe sqe.pointee.rw_flags = flags
            }
        }
        let count = UInt32(min(vectors.left, VectorList.mostAtOnce))
        unsafe begin(file, slot, tag) { sqe, number in
            unsafe io_uring_prep_writev(sqe, number, vectors.vectors, count, offset)
            unsafe sqe.pointee.rw_flags = flags
        }
    }

    /// Reads at `offset` into all of `buffer` but its first `skip` bytes.
    package func beginRead(
        _ file: ReactorFile, _ buffer: AlignedBuffer, from skip: Int, at offset: UInt64, _ slot: ReactorSlot, tag: UInt32
    ) {
        let count = min(buffer.byteCount - skip, Self.mostBytes)
        // SAFETY: `bytes` checks the range, and the caller keeps the buffer until the completion.
        let memory = unsafe buffer.bytes(from: skip, count: count)
        unsafe begin(file, slot, tag) { unsafe io_uring_prep_read($0, $1, memory, UInt32(count), offset) }
    }

    /// Writes all of `buffer` but its first `skip` bytes at `offset`.
    /// - Parameter isDurable: as above.
    package func beginWrite(
        _ file: ReactorFile, _ buffer: AlignedBuffer, from skip: Int, at offset: UInt64, isDurable: Bool = false,
        _ slot: ReactorSlot, tag: UInt32
    ) {
        let flags: Int32 = isDurable ? RWF_DSYNC : 0
        let count = min(buffer.byteCount - skip, Self.mostBytes)
        // SAFETY: `bytes` checks the range, and the caller keeps the buffer until the completion.
        let memory = unsafe buffer.bytes(from: skip, count: count)
        unsafe begin(file, slot, tag) { sqe, number in
            unsafe io_uring_prep_write(sqe, number, memory, UInt32(count), offset)
            unsafe sqe.pointee.rw_flags = flags
        }
    }

    /// Writes the first `count` bytes of `buffer` at `offset`.
    package func beginWrite(
        _ file: ReactorFile, _ buffer: AlignedBuffer, count: Int, at offset: UInt64, _ slot: ReactorSlot, tag: UInt32
    ) {
        let count = min(count, Self.mostBytes)
        // SAFETY: `bytes` checks the range, and the caller keeps the buffer until the completion.
        let memory = unsafe buffer.bytes(from: 0, count: count)
        unsafe begin(file, slot, tag) { unsafe io_uring_prep_write($0, $1, memory, UInt32(count), offset) }
    }
}
