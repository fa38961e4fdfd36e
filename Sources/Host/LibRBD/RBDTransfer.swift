// One request on its way to a cluster, and its memory.

import SharedMemory

/// A request's memory. A write's pages are read while it is being begun, and not later. What is read comes into a
/// buffer of ours and from there into the pages: nothing can ask the library to let go of memory, and whoever no longer
/// wants an answer from a cluster that is away takes its pages back.
package final class RBDTransfer {
    /// The memory that it moves data to or from; whoever loads it keeps what is in it until the transfer has ended or
    /// is nobody's any more.
    package let vectors = VectorList()
    /// Whose it is, and which among those; nobody's: 0.
    package var (owner, number) = (0, 0)
    private(set) var buffer: AlignedBuffer?

    /// Bytes of a buffer that is kept for the next request.
    private static let most = 1 << 16

    /// A transfer with nothing to do.
    package init() {}

    /// Sees to a buffer for as many bytes as the vectors have. False if there is no memory.
    func prepareBuffer() -> Bool {
        let count = Int(vectors.total)
        if let buffer, buffer.byteCount >= count { return true }
        // Most are as large as the ones before, or smaller.
        buffer = AlignedBuffer(byteCount: (count + 4095) & ~4095, alignment: 4096)
        return buffer != nil
    }

    /// What was read is where it belongs.
    package func takeRead() {
        guard let buffer else { return }
        vectors.scatter(from: buffer)
    }

    /// The request has ended.
    package func rest() { if let buffer, buffer.byteCount > Self.most { self.buffer = nil } }
}
