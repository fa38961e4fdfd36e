// What can be done at once with the memory of a transfer: copies, and system calls that end before they return.

import Glibc
import LinuxSystem

extension VectorList {
    // MARK: Copies

    /// Copies what is left to `buffer`, which holds at least `remaining` bytes.
    package func gather(into buffer: AlignedBuffer) {
        precondition(remaining <= UInt64(buffer.byteCount), "more bytes than a buffer has")
        unsafe gather(into: buffer.base)
    }

    /// Copies what is left to `offset` of `region`.
    public func gather(into region: SharedRegion, at offset: Int) {
        region.check(offset, Int(remaining))
        unsafe gather(into: region.base + offset)
    }

    private func gather(into buffer: UnsafeMutableRawPointer) {
        var offset = 0
        for index in first..<count {
            let vector = unsafe storage[index]
            if let base = unsafe vector.iov_base { unsafe (buffer + offset).copyMemory(from: base, byteCount: vector.iov_len) }
            unsafe offset += vector.iov_len
        }
    }

    /// Copies the first `remaining` bytes of `buffer` to where they belong.
    package func scatter(from buffer: AlignedBuffer) {
        precondition(remaining <= UInt64(buffer.byteCount), "more bytes than a buffer has")
        unsafe scatter(from: buffer.base, byteCount: Int(remaining))
    }

    /// Copies the `byteCount` bytes at `offset` of `region`, at most `remaining`, to where they belong.
    public func scatter(from region: SharedRegion, at offset: Int, byteCount: Int) {
        region.check(offset, byteCount)
        unsafe scatter(from: region.base + offset, byteCount: byteCount)
    }

    private func scatter(from buffer: UnsafeRawPointer, byteCount: Int) {
        var offset = 0
        for index in first..<count where offset < byteCount {
            let vector = unsafe storage[index]
            let part = unsafe min(vector.iov_len, byteCount - offset)
            if let base = unsafe vector.iov_base { unsafe base.copyMemory(from: buffer + offset, byteCount: part) }
            offset += part
        }
    }

    // MARK: System calls. Each result is the number of bytes moved, or a negated errno; a list of more than `mostAtOnce` vectors is -EINVAL.

    /// Reads into what is left (`readv(2)`).
    public func read(from file: Descriptor) -> Int {
        // SAFETY: as many vectors as there are, of memory that whoever loaded them keeps.
        Self.result(unsafe readv(file.rawValue, vectors, Int32(left)))
    }

    /// Writes what is left (`writev(2)`).
    public func write(to file: Descriptor) -> Int {
        // SAFETY: as above.
        Self.result(unsafe writev(file.rawValue, vectors, Int32(left)))
    }

    /// Reads from `offset` of a file into what is left (`preadv(2)`, or `pread(2)` for one run).
    @inlinable public func read(from file: Descriptor, at offset: off_t) -> Int {
        // SAFETY: as above.
        if let run = unsafe onlyRun { return Self.result(unsafe pread(file.rawValue, run.baseAddress, run.count, offset)) }
        return Self.result(unsafe preadv(file.rawValue, vectors, Int32(left), offset))
    }

    /// Writes what is left to `offset` of a file (`pwritev(2)`, or `pwrite(2)` for one run).
    @inlinable public func write(to file: Descriptor, at offset: off_t) -> Int {
        // SAFETY: as above.
        if let run = unsafe onlyRun { return Self.result(unsafe pwrite(file.rawValue, run.baseAddress, run.count, offset)) }
        return Self.result(unsafe pwritev(file.rawValue, vectors, Int32(left), offset))
    }

    @inlinable static func result(_ count: Int) -> Int { count < 0 ? -Int(Errno.current.rawValue) : count }
}
