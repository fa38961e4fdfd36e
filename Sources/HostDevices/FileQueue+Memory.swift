// Files that live in memory (tmpfs). They cannot be read without waiting as io_uring understands it, so it hands each operation to a worker
// thread: some ten microseconds for a copy that takes a fraction of one. Here the copy is made at once, on the reactor's thread.

import Glibc
import LinuxSystem

extension FileQueue {
    /// Larger transfers are worth a worker thread: the reactor serves others meanwhile.
    private static let mostBytesNow: UInt64 = 256 * 1024

    /// Does `request` at once if its file is in memory; nil: it was not begun.
    func performNow(_ request: FileRequest) -> DeviceResult? {
        guard disk.isInMemory else { return nil }
        switch request.operation {
        case .read(let offset), .write(let offset):
            if request.vectors.total > Self.mostBytesNow || request.vectors.count > VectorList.mostAtOnce { return nil }
            return transferNow(request, at: offset)
        case .flush: return fdatasync(disk.descriptor.rawValue) == 0 ? .done : .failed(Errno.current)
        case .discard: return nil
        }
    }

    private func transferNow(_ request: FileRequest, at offset: UInt64) -> DeviceResult {
        while true {
            let result = callNow(request, at: offset + request.moved)
            switch advance(request, result < 0 ? -errno : Int32(result)) {
            case .again: continue
            case .ended(let outcome): return outcome
            }
        }
    }

    /// One `pread`, `preadv`, `pwrite` or `pwritev` of what is left.
    private func callNow(_ request: FileRequest, at offset: UInt64) -> Int {
        let (vectors, descriptor, position) = (request.vectors, disk.descriptor.rawValue, off_t(offset))
        let first = unsafe vectors.storage + vectors.first
        let isRead = if case .read = request.operation { true } else { false }
        if vectors.left == 1 {
            return unsafe isRead
                ? pread(descriptor, first.pointee.iov_base, first.pointee.iov_len, position)
                : pwrite(descriptor, first.pointee.iov_base, first.pointee.iov_len, position)
        }
        let count = Int32(vectors.left)
        return unsafe isRead ? preadv(descriptor, first, count, position) : pwritev(descriptor, first, count, position)
    }
}
