// How a range of a file or block device becomes zero: by its file system or by the device where these can do that, else
// by writes of zeroes, a piece after the other, between which others have their turn.

import CLinux
import LinuxSystem
import Reactor
import SharedMemory

/// A way to make a range zero. The kernel runs the first two on a worker of its own; on a block device they are what
/// BLKZEROOUT does, and its page cache is kept right.
enum ZeroMethod {
    /// `fallocate(2)`: a hole, which gives the range's room back. A block device may forget the range, if it can
    /// promise that it reads as zeroes.
    case hole
    /// `fallocate(2)`: the range keeps its room. A block device writes zeroes where it has no command for that.
    case range
    /// Zeroes are written.
    case writes
}

/// What one queue has found out about its disk's ways, and the zeroes that it writes.
struct ZeroMethods {
    var hasHoles = true
    var hasRanges = true
    /// Made when first needed. Nobody writes it, so that all requests of the queue share it.
    private(set) var zeroes: AlignedBuffer?

    /// Bytes of one write: a reactor is not kept longer than by other writes.
    static var pieceBytes: Int { 256 * 1024 }

    /// The best way that is left.
    func best(mayUnmap: Bool) -> ZeroMethod { mayUnmap && hasHoles ? .hole : hasRanges ? .range : .writes }

    /// The file system or device has refused a way.
    mutating func refused(_ method: ZeroMethod) {
        switch method {
        case .hole: hasHoles = false
        case .range: hasRanges = false
        case .writes: break
        }
    }

    /// A buffer of zeroes; nil: there is no memory.
    mutating func buffer(alignment: Int) -> AlignedBuffer? {
        if zeroes == nil { zeroes = AlignedBuffer(zeroed: Self.pieceBytes, alignment: alignment) }
        return zeroes
    }
}

extension FileQueue {
    /// Begins to make a range zero, or goes on with it.
    func beginZeroes(
        _ index: UInt32, _ request: FileRequest, _ offset: UInt64, _ byteCount: UInt64, mayUnmap: Bool, _ slot: ReactorSlot
    ) {
        request.zeroMethod = request.moved > 0 ? .writes : zeroMethods.best(mayUnmap: mayUnmap)
        let mode: Int32
        switch request.zeroMethod {
        case .writes: return beginZeroPiece(index, request, at: offset &+ request.moved, byteCount &- request.moved, slot)
        case .hole: mode = causeway_punch_hole_mode()
        case .range: mode = causeway_zero_range_mode()
        }
        reactor.beginAllocate(file, mode: mode, at: offset, byteCount: byteCount, slot, tag: index)
    }

    private func beginZeroPiece(
        _ index: UInt32, _ request: FileRequest, at offset: UInt64, _ left: UInt64, _ slot: ReactorSlot
    ) {
        guard let zeroes = zeroMethods.buffer(alignment: Int(max(disk.memoryAlignment, disk.offsetAlignment))) else {
            reactor.beginExternal(slot)
            return reactor.finishExternal(slot, tag: index, result: -Errno.noMemory.rawValue)
        }
        // Its owner is the queue, which stays until its last operation has ended.
        reactor.beginWrite(file, zeroes, count: Int(min(left, UInt64(zeroes.byteCount))), at: offset, slot, tag: index)
    }

    /// Accounts an answer of the kernel to one of the ways.
    func advanceZeroes(_ request: FileRequest, _ byteCount: UInt64, _ result: Int32) -> Progress {
        switch request.zeroMethod {
        case .hole, .range:
            if result >= 0 { return .ended(.done) }
            guard Errno(-result).isUnsupported else { return .ended(.failed(Errno(-result))) }
            zeroMethods.refused(request.zeroMethod)
        case .writes:
            if result < 0 { return .ended(.failed(Errno(-result))) }
            // Direct I/O goes on where a block begins.
            let progress = UInt64(result) & ~UInt64(disk.offsetAlignment &- 1)
            if progress == 0 { return retry(request, .ioError) }
            request.moved += progress
            if request.moved >= byteCount { return .ended(.done) }
        }
        // What is cancelled between two steps has none at the kernel that could say so.
        return isCancelling ? .ended(.failed(.canceled)) : .again
    }
}
