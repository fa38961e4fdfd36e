// One operation on its way to an NBD server, from its submission to its answer, over as many connections as that takes.

import DMA
import LibNBD
import LinuxSystem

/// One operation on its way.
struct NBDRequest {
    let operation: DeviceOperation
    let tag: UInt32
    /// Its place among all: what is asked again is asked in the old order.
    let serial: UInt64
    /// Writes that had been answered when it came.
    let writesBefore: UInt64
    var transfer: NBDTransfer
    let flight: Flight

    /// Gives all its commands to `connection`.
    func issue(on connection: NBDConnection, largest: UInt64) {
        switch operation {
        case .read(let offset): transfer.read(at: offset, largest: largest, on: connection)
        case .write(_, true) where !connection.canWriteDurably: transfer.fail(.notSupported)
        case .write(let offset, let isDurable):
            transfer.write(at: offset, largest: largest, isDurable: isDurable, on: connection)
        case .flush: transfer.flush(on: connection)
        // A server that has come back may know these no more.
        case .discard where !connection.canTrim: transfer.fail(.notSupported)
        case .discard(let offset, let byteCount, _): transfer.discard(at: offset, byteCount: byteCount, on: connection)
        case .writeZeroes where !connection.canZero: transfer.fail(.notSupported)
        case .writeZeroes(let offset, let byteCount, let mayUnmap):
            transfer.zero(at: offset, byteCount: byteCount, mayUnmap: mayUnmap, on: connection)
        }
    }

    /// The same, to be asked again of another connection. Every operation may be done twice.
    func repeated() -> NBDRequest {
        var copy = self
        copy.transfer = transfer.repeated()
        return copy
    }
}

/// A queue's time without a server that answers.
struct NBDAbsence {
    /// When waiting is over (`TimeSource.nanoseconds`).
    let deadline: UInt64
    /// Milliseconds before the next attempt.
    var pause: UInt64
    /// Requests that have waited since they were last counted.
    var waited = 0
    /// Waiting is over: requests fail until the server is back.
    var hasGivenUp = false
    /// Whether the disk was told: a queue that connects for the first time, and can, has nothing to tell.
    var isTold = false
    /// Attempts so far.
    var attempts = 0
}
