// How one operation goes to the kernel and what its answer means.

import CLinux
import DMA
import Glibc
import LinuxSystem
import Reactor
import SharedMemory

/// How a block device is told to discard; found out with the first one.
enum BlockDiscardMethod {
    /// An io_uring command (Linux 6.12).
    case ring
    /// The ioctl, on a helper thread.
    case thread
}

enum Progress {
    case again
    case ended(DeviceResult)
}

extension FileQueue {
    /// Transient refusals (EINTR, EAGAIN, no progress) taken before a request fails.
    private static let mostRetries = 16

    /// Gives what is left of `request` to the reactor.
    func begin(_ index: UInt32, _ request: FileRequest) {
        guard let slot else { return }
        switch request.operation {
        case .read(let offset): beginTransfer(index, request, at: offset &+ request.moved, slot, isRead: true)
        case .write(let offset, _): beginTransfer(index, request, at: offset &+ request.moved, slot, isRead: false)
        case .flush: reactor.beginSync(file, dataOnly: true, slot, tag: index)
        case .discard(let offset, let byteCount, let secure): beginDiscard(index, offset, byteCount, secure: secure, slot)
        case .writeZeroes(let offset, let byteCount, let mayUnmap):
            beginZeroes(index, request, offset, byteCount, mayUnmap: mayUnmap, slot)
        }
    }

    private func beginTransfer(_ index: UInt32, _ request: FileRequest, at offset: UInt64, _ slot: ReactorSlot, isRead: Bool) {
        let isDurable = if case .write(_, true) = request.operation { true } else { false }
        // The request's flight keeps the pages mapped, and the request keeps its vectors and bounce buffer, until the
        // completion.
        if let bounce = request.bounce {
            let moved = Int(request.moved)
            if isRead {
                reactor.beginRead(file, bounce, from: moved, at: offset, slot, tag: index)
            } else {
                reactor.beginWrite(file, bounce, from: moved, at: offset, isDurable: isDurable, slot, tag: index)
            }
        } else if isRead {
            reactor.beginRead(file, request.vectors, at: offset, slot, tag: index)
        } else {
            reactor.beginWrite(file, request.vectors, at: offset, isDurable: isDurable, slot, tag: index)
        }
    }

    private func beginDiscard(_ index: UInt32, _ offset: UInt64, _ byteCount: UInt64, secure: Bool, _ slot: ReactorSlot) {
        if !disk.isBlockDevice {
            reactor.beginAllocate(file, mode: causeway_punch_hole_mode(), at: offset, byteCount: byteCount, slot, tag: index)
        } else if !secure && blockDiscard == .ring {
            reactor.beginBlockDiscard(file, at: offset, byteCount: byteCount, slot, tag: index)
        } else {
            let reactor = self.reactor
            let descriptor = disk.descriptor
            reactor.beginExternal(slot)
            disk.worker.run { hasThread in
                guard hasThread else { return reactor.finishExternal(slot, tag: index, result: -EAGAIN) }
                let result = causeway_block_discard(descriptor.rawValue, offset, byteCount, secure ? 1 : 0)
                reactor.finishExternal(slot, tag: index, result: result == 0 ? 0 : -errno)
            }
        }
    }

    /// Accounts an answer of the kernel.
    func advance(_ request: FileRequest, _ result: Int32) -> Progress {
        if result == -EINTR || result == -EAGAIN { return retry(request, Errno(-result)) }
        switch request.operation {
        case .read: return advanceTransfer(request, result, isRead: true)
        case .write: return advanceTransfer(request, result, isRead: false)
        case .flush: return .ended(result < 0 ? .failed(Errno(-result)) : .done)
        case .discard(_, _, let secure):
            // A kernel before 6.12 knows no such command; a later one says EOPNOTSUPP only for a device that cannot
            // discard.
            if disk.isBlockDevice, !secure, blockDiscard == .ring, result == -EOPNOTSUPP || result == -EINVAL || result == -ENOTTY {
                blockDiscard = .thread
                return .again
            }
            return .ended(result < 0 ? .failed(Errno(-result)) : .done)
        case .writeZeroes(_, let byteCount, _): return advanceZeroes(request, byteCount, result)
        }
    }

    private func advanceTransfer(_ request: FileRequest, _ result: Int32, isRead: Bool) -> Progress {
        if result < 0 { return .ended(.failed(Errno(-result))) }
        // Nothing read is the end of a file that has shrunk, nothing written a device that takes no more.
        if result == 0 { return .ended(.failed(.ioError)) }
        // Direct I/O goes on where a block begins; what was moved of the last one is moved again.
        let progress = UInt64(result) & ~UInt64(disk.offsetAlignment &- 1)
        if progress == 0 { return retry(request, .ioError) }
        request.moved += progress
        if request.bounce == nil { request.vectors.advance(progress) }
        if request.moved < request.vectors.total {
            statistics.continued &+= 1
            return .again
        }
        if isRead, let bounce = request.bounce { request.vectors.scatter(from: bounce) }
        return .ended(.done)
    }

    func retry(_ request: FileRequest, _ error: Errno) -> Progress {
        request.retries += 1
        return request.retries > Self.mostRetries ? .ended(.failed(error)) : .again
    }

    /// Whether the pages are not aligned as direct I/O needs them.
    func needsBounce(_ request: FileRequest) -> Bool {
        guard disk.usesDirectIO, request.vectors.count > 0 else { return false }
        return !request.vectors.isAligned(memory: disk.memoryAlignment, length: disk.offsetAlignment)
    }

    func makeBounce(_ request: FileRequest) -> Bool {
        let alignment = Int(max(disk.memoryAlignment, disk.offsetAlignment))
        guard let bounce = AlignedBuffer(byteCount: Int(request.vectors.total), alignment: alignment) else { return false }
        if case .write = request.operation { request.vectors.gather(into: bounce) }
        request.bounce = bounce
        statistics.bounced &+= 1
        return true
    }
}
