// Aligned memory that a transfer goes through when its own pages are not aligned as the device needs them, or when the
// device takes one buffer only.

import Glibc

/// Private, aligned, freed with its owner.
///
/// SAFETY: `base` is one allocation of `byteCount` bytes, freed in `deinit` and nowhere else; what is lent of it is
/// checked against its size.
@safe
package final class AlignedBuffer {
    let base: UnsafeMutableRawPointer
    /// How much there is.
    package let byteCount: Int

    /// nil if there is no memory.
    /// - Parameter alignment: bytes, a power of two; at least a page is.
    package init?(byteCount: Int, alignment: Int) {
        var memory: UnsafeMutableRawPointer?
        guard unsafe posix_memalign(&memory, max(alignment, 4096), byteCount) == 0, let memory = unsafe memory else { return nil }
        unsafe base = memory
        self.byteCount = byteCount
    }

    /// The same, all of it zero.
    package convenience init?(zeroed byteCount: Int, alignment: Int) {
        self.init(byteCount: byteCount, alignment: alignment)
        unsafe base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
    }

    deinit { unsafe free(base) }

    /// The `count` bytes from `offset` on, for the device side. The buffer must outlive every use.
    @unsafe
    package func bytes(from offset: Int, count: Int) -> UnsafeMutableRawPointer {
        precondition(offset >= 0 && count >= 0 && offset <= byteCount - count, "bytes that a buffer does not have")
        return unsafe base + offset
    }
}
