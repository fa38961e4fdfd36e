// What an open file is, and its bytes by their place.

import Glibc

extension Descriptor {
    /// What the kernel says of it (`fstat(2)`).
    package func status() throws(Errno) -> stat {
        var status = stat()
        // SAFETY: the call fills in the one structure that it is given.
        try retryingInterrupts { unsafe fstat(rawValue, &status) }
        return status
    }

    /// The `count` bytes from `offset` on, or as many as there are; the place of reading stays where it is.
    package func read(_ count: Int, at offset: off_t) throws(Errno) -> [UInt8] {
        var failure: Errno?
        // SAFETY: the kernel writes at most what is left of the buffer, and what it says it wrote counts as
        // initialized.
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            filled = 0
            while filled < count {
                let step = unsafe pread(
                    rawValue, buffer.baseAddress.unsafelyUnwrapped + filled, count - filled, offset + off_t(filled))
                if step < 0 && errno == EINTR { continue }
                if step < 0 { failure = Errno.current }
                if step <= 0 { break }
                filled += step
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Writes bytes at a place, all in one call; the place of reading stays where it is. EIO if fewer were taken.
    package func write(_ bytes: [UInt8], at offset: off_t) throws(Errno) {
        // SAFETY: the kernel reads the array's bytes.
        let count = try retryingInterrupts {
            unsafe bytes.withUnsafeBytes { unsafe pwrite(rawValue, $0.baseAddress, $0.count, offset) }
        }
        if count != bytes.count { throw .ioError }
    }
}
