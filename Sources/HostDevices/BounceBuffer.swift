// Aligned memory that a transfer goes through when its own pages are not aligned as the device needs them, or when the device takes one
// buffer only.

import Glibc

/// Private, aligned, freed with its owner.
@safe
final class BounceBuffer {
    let base: UnsafeMutableRawPointer
    let byteCount: Int

    /// nil if there is no memory.
    init?(byteCount: Int, alignment: Int) {
        var memory: UnsafeMutableRawPointer?
        guard unsafe posix_memalign(&memory, max(alignment, 4096), byteCount) == 0, let memory = unsafe memory else { return nil }
        unsafe base = memory
        self.byteCount = byteCount
    }

    deinit { unsafe free(base) }
}
