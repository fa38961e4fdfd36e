// Bytes that C lends for the length of a call, such as a buffer that a library hands to its plugin. C says how many
// there are; from here on they are spans, which nobody can keep.

import CLinux

extension causeway_lent_bytes {
    /// Lends them for reading.
    package func look<E: Error>(_ body: (RawSpan) throws(E) -> Void) throws(E) {
        // SAFETY: there are `count` bytes for as long as this call takes, as whoever made the structure says.
        try body(unsafe RawSpan(_unsafeStart: UnsafeRawPointer(start), byteCount: count))
    }

    /// Lends them for writing.
    package func fill<E: Error>(_ body: (inout MutableRawSpan) throws(E) -> Void) throws(E) {
        // SAFETY: as above.
        var span = unsafe MutableRawSpan(_unsafeStart: start, byteCount: count)
        try body(&span)
    }

    /// A copy, as text.
    package var text: String {
        // SAFETY: as above.
        unsafe String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
    }
}
