// One operation on an NBD disk: one or more commands of the protocol, one completion.

import CNBD
import LinuxSystem
import SharedMemory

/// An operation's memory and its commands.
///
/// SAFETY: each command's callback holds a reference, from `callback` until libnbd frees it, so that the vectors and
/// the buffer outlive the last command; what the vectors name is kept mapped by whoever loaded them. A command gets as
/// many bytes as `memory` has checked.
@safe
package final class NBDTransfer {
    /// The memory that it moves data to or from; whoever loads it keeps what is in it until the transfer has ended.
    package let vectors: VectorList
    private var bounce: AlignedBuffer?
    /// Commands that libnbd has not reported.
    private var outstanding = 0
    /// The first error of a command; nil: none has failed.
    package private(set) var error: Errno?
    /// Where it reports itself when the last command has ended. The list outlives the queue's connection.
    private let finished: NBDFinishedList

    /// A transfer that will report itself in `finished`.
    package init(_ finished: NBDFinishedList) {
        self.finished = finished
        vectors = VectorList()
    }

    private init(repeating other: NBDTransfer) {
        finished = other.finished
        vectors = other.vectors
        bounce = other.bounce
    }

    /// The same transfer, for another connection. What this one's connection may still say of it says nothing of that.
    package func repeated() -> NBDTransfer { NBDTransfer(repeating: self) }

    /// Whether its data goes through a buffer of ours.
    package var isBounced: Bool { bounce != nil }

    /// The protocol moves one buffer a command: scattered pages go through one of ours, which gets their contents if
    /// they are to be written. False if there is no memory.
    package func prepareMemory(toWrite: Bool) -> Bool {
        guard vectors.count > 1 else { return true }
        guard let bounce = AlignedBuffer(byteCount: Int(vectors.total), alignment: 4096) else { return false }
        if toWrite { vectors.gather(into: bounce) }
        self.bounce = bounce
        return true
    }

    /// What was read is where it belongs.
    package func takeBounced() {
        if let bounce { vectors.scatter(from: bounce) }
    }

    /// Ends it with an error of ours; no server is asked.
    package func fail(_ reason: Errno) {
        error = reason
        finished.transfers.append(self)
    }

    // MARK: Commands

    /// Reads the disk's bytes from `offset` on into all of its memory, at most `largest` bytes a command.
    package func read(at offset: UInt64, largest: UInt64, on connection: NBDConnection) {
        inPieces(of: vectors.total, at: max(largest, 4096), on: connection) { done, count in
            guard let memory = unsafe memory(done, count) else { return -1 }
            return unsafe nbd_aio_pread(connection.raw, memory, count, offset + UInt64(done), self.callback(), 0)
        }
    }

    /// Writes all of its memory to the disk from `offset` on, at most `largest` bytes a command.
    /// - Parameter isDurable: whether each command is on stable storage when it is done.
    package func write(at offset: UInt64, largest: UInt64, isDurable: Bool, on connection: NBDConnection) {
        let flags = isDurable ? UInt32(LIBNBD_CMD_FLAG_FUA) : 0
        inPieces(of: vectors.total, at: max(largest, 4096), on: connection) { done, count in
            guard let memory = unsafe memory(done, count) else { return -1 }
            return unsafe nbd_aio_pwrite(connection.raw, memory, count, offset + UInt64(done), self.callback(), flags)
        }
    }

    /// Makes durable what was written.
    package func flush(on connection: NBDConnection) {
        inPieces(of: 1, at: 1, on: connection) { _, _ in unsafe nbd_aio_flush(connection.raw, self.callback(), 0) }
    }

    /// Discards `byteCount` bytes from `offset` on.
    package func discard(at offset: UInt64, byteCount: UInt64, on connection: NBDConnection) {
        // The protocol's lengths have 32 bits.
        inPieces(of: byteCount, at: 1 << 30, on: connection) { done, count in
            unsafe nbd_aio_trim(connection.raw, UInt64(count), offset + UInt64(done), self.callback(), 0)
        }
    }

    /// Makes `byteCount` bytes zero from `offset` on.
    /// - Parameter mayUnmap: whether they may become a hole.
    package func zero(at offset: UInt64, byteCount: UInt64, mayUnmap: Bool, on connection: NBDConnection) {
        let flags = mayUnmap ? 0 : LIBNBD_CMD_FLAG_NO_HOLE
        inPieces(of: byteCount, at: 1 << 30, on: connection) { done, count in
            unsafe nbd_aio_zero(connection.raw, UInt64(count), offset + UInt64(done), self.callback(), UInt32(flags))
        }
    }

    /// Where `count` bytes of the one buffer lie, `done` bytes behind its start; nil if there is none.
    private func memory(_ done: Int, _ count: Int) -> UnsafeMutableRawPointer? {
        if let bounce { return unsafe bounce.bytes(from: done, count: count) }
        guard let run = unsafe vectors.onlyRun, let base = run.baseAddress else { return nil }
        precondition(count <= run.count - done, "bytes that a transfer does not have")
        return unsafe base + done
    }

    private func inPieces(
        of total: UInt64, at most: UInt64, on connection: NBDConnection, _ begin: (Int, Int) -> Int64
    ) {
        // One for this function: commands that fail while others are yet to be issued must not end the transfer.
        outstanding = 1
        var done: UInt64 = 0
        while done < total && error == nil {
            let count = min(total - done, most)
            outstanding += 1
            // A command that could not be issued is not reported: libnbd only lets go of its callback.
            if begin(Int(done), Int(count)) == -1 {
                // One before it may have met the connection's end, which libnbd calls an invalid argument of this one.
                let code = nbd_get_errno()
                commandEnded(connection.isDead ? .notConnected : code > 0 ? Errno(code) : .ioError)
            }
            done += count
        }
        commandEnded(nil)
    }

    private func commandEnded(_ newError: Errno?) {
        if error == nil { error = newError }
        outstanding -= 1
        if outstanding == 0 { finished.transfers.append(self) }
    }

    /// libnbd keeps a reference to the transfer from here until it frees the callback.
    private func callback() -> nbd_completion_callback {
        unsafe nbd_completion_callback(
            callback: { data, error in
                guard let data = unsafe data else { return 1 }
                let code = unsafe error?.pointee ?? 0
                unsafe Unmanaged<NBDTransfer>.fromOpaque(data).takeUnretainedValue().commandEnded(code == 0 ? nil : Errno(code))
                return 1
            },
            user_data: Unmanaged.passRetained(self).toOpaque(),
            free: { data in
                if let data = unsafe data { unsafe Unmanaged<NBDTransfer>.fromOpaque(data).release() }
            })
    }
}

/// Transfers whose last command has ended and whose owner has not been told: libnbd reports from inside its calls, a
/// queue only from its own turn.
package final class NBDFinishedList {
    fileprivate(set) var transfers: [NBDTransfer] = []

    /// None yet.
    package init() {}

    /// Whether there is none.
    package var isEmpty: Bool { transfers.isEmpty }

    /// Takes them all, in the order in which they ended.
    package func takeAll() -> [NBDTransfer] {
        let all = transfers
        transfers = []
        return all
    }
}
