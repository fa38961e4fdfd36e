// One operation on an NBD disk: one or more commands of the protocol, one completion.

import CNBD
import DMA
import LinuxSystem

@safe
final class NBDRequest {
    let operation: DeviceOperation
    let tag: UInt32
    let vectors: VectorList
    var bounce: BounceBuffer?
    var flight: Flight?
    /// Commands that libnbd has not reported.
    var outstanding = 0
    var error: Errno?
    /// Where it reports itself when the last command has ended. The list outlives the queue's connection.
    let finished: FinishedList

    init(_ operation: DeviceOperation, _ tag: UInt32, _ vectors: VectorList, _ finished: FinishedList) {
        self.operation = operation
        self.tag = tag
        self.vectors = vectors
        self.finished = finished
    }

    /// The protocol moves one buffer a command: scattered pages go through one of ours.
    func prepareMemory() -> Bool {
        guard vectors.count > 1 else { return true }
        guard let bounce = BounceBuffer(byteCount: Int(vectors.total), alignment: 4096) else { return false }
        if case .write = operation { unsafe vectors.gather(into: bounce.base) }
        self.bounce = bounce
        return true
    }

    private var memory: UnsafeMutableRawPointer? {
        if let bounce { return unsafe bounce.base }
        return unsafe vectors.count == 1 ? vectors.storage[0].iov_base : nil
    }

    /// Gives all its commands to `handle`.
    func issue(on handle: NBDHandle, largest: UInt64) {
        // One for this function: commands that fail while others are yet to be issued must not end it.
        outstanding = 1
        switch operation {
        case .read(let offset):
            inPieces(of: vectors.total, at: most(largest)) { done, count in
                guard let memory = unsafe memory else { return -1 }
                return unsafe nbd_aio_pread(handle.raw, memory + done, count, offset + UInt64(done), self.callback(), 0)
            }
        case .write(let offset):
            inPieces(of: vectors.total, at: most(largest)) { done, count in
                guard let memory = unsafe memory else { return -1 }
                return unsafe nbd_aio_pwrite(handle.raw, memory + done, count, offset + UInt64(done), self.callback(), 0)
            }
        case .flush:
            inPieces(of: 1, at: 1) { _, _ in unsafe nbd_aio_flush(handle.raw, self.callback(), 0) }
        case .discard(let offset, let byteCount, _):
            // The protocol's lengths have 32 bits.
            inPieces(of: byteCount, at: 1 << 30) { done, count in
                unsafe nbd_aio_trim(handle.raw, UInt64(count), offset + UInt64(done), self.callback(), 0)
            }
        }
        commandEnded(nil)
    }

    private func most(_ largest: UInt64) -> UInt64 { max(largest, 4096) }

    private func inPieces(of total: UInt64, at most: UInt64, _ begin: (Int, Int) -> Int64) {
        var done: UInt64 = 0
        while done < total && error == nil {
            let count = min(total - done, most)
            outstanding += 1
            // A command that could not be issued is not reported: libnbd only lets go of its callback.
            if begin(Int(done), Int(count)) == -1 {
                let code = nbd_get_errno()
                commandEnded(Errno(code > 0 ? code : 5))
            }
            done += count
        }
    }

    private func commandEnded(_ newError: Errno?) {
        if error == nil { error = newError }
        outstanding -= 1
        if outstanding == 0 { finished.requests.append(self) }
    }

    /// libnbd keeps a reference to the request from here until it frees the callback.
    private func callback() -> nbd_completion_callback {
        unsafe nbd_completion_callback(
            callback: { data, error in
                guard let data = unsafe data else { return 1 }
                let code = unsafe error?.pointee ?? 0
                unsafe Unmanaged<NBDRequest>.fromOpaque(data).takeUnretainedValue().commandEnded(code == 0 ? nil : Errno(code))
                return 1
            },
            user_data: Unmanaged.passRetained(self).toOpaque(),
            free: { data in
                if let data = unsafe data { unsafe Unmanaged<NBDRequest>.fromOpaque(data).release() }
            })
    }
}

/// Requests whose last command has ended and whose owner has not been told: libnbd reports from inside its calls, a queue only from
/// its own turn.
final class FinishedList {
    var requests: [NBDRequest] = []
}
