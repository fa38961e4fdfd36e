// Files that live in memory (tmpfs). They cannot be read without waiting as io_uring understands it, so it hands each
// operation to a worker thread: some ten microseconds for a copy that takes a fraction of one. Here the copy is made at
// once, on the reactor's thread.

import DMA
import Glibc
import LinuxSystem
import SharedMemory

extension FileQueue {
    /// Larger transfers are worth a worker thread: the reactor serves others meanwhile.
    private static let mostBytesNow: UInt64 = 256 * 1024

    /// Does `request` at once if its file is in memory; nil: it was not begun.
    func performNow(_ request: FileRequest) -> DeviceResult? {
        guard disk.isInMemory else { return nil }
        switch request.operation {
        // What is in memory is nowhere else, durable or not.
        case .read(let offset), .write(let offset, _):
            if request.vectors.total > Self.mostBytesNow || request.vectors.count > VectorList.mostAtOnce { return nil }
            return transferNow(request, at: offset)
        case .flush: return fdatasync(disk.descriptor.rawValue) == 0 ? .done : .failed(Errno.current)
        case .discard, .writeZeroes: return nil
        }
    }

    private func transferNow(_ request: FileRequest, at offset: UInt64) -> DeviceResult {
        while true {
            switch advance(request, Int32(callNow(request, at: offset + request.moved))) {
            case .again: continue
            case .ended(let outcome): return outcome
            }
        }
    }

    /// One `pread`, `preadv`, `pwrite` or `pwritev` of what is left.
    private func callNow(_ request: FileRequest, at offset: UInt64) -> Int {
        let isRead = if case .read = request.operation { true } else { false }
        return isRead
            ? request.vectors.read(from: disk.descriptor, at: off_t(offset))
            : request.vectors.write(to: disk.descriptor, at: off_t(offset))
    }
}
