// Which pages of the driver's memory a device has written, for whoever moves that memory to another machine while the
// device works: a bit for each page, set here, fetched and cleared there. A page is marked after it was written: one
// that is marked first may be fetched before the write, and nobody would come back for it. And it is marked whether or
// not it is marked already: to look first, a load could run ahead of the write that it is about.

import SharedMemory
import VirtioWire

/// A bitmap of pages in memory that is shared with whoever reads it. Any number of threads may mark.
public struct DirtyLog: Sendable, CustomStringConvertible {
    /// Bytes that one bit stands for (`VHOST_LOG_PAGE`).
    public static let pageBytes: UInt64 = 4096
    private static let pageShift: UInt64 = 12

    private let region: SharedRegion
    private let offset: Int
    /// Pages that there are bits for, from address 0 on.
    public let pageCount: UInt64

    /// - Parameters:
    ///   - region: where the bitmap is, from `offset` on, a multiple of 4.
    ///   - byteCount: of the bitmap.
    public init(_ region: SharedRegion, at offset: Int, byteCount: Int) {
        precondition(
            offset >= 0 && offset % 4 == 0 && byteCount >= 0 && offset + byteCount <= region.byteCount, "no room for a log")
        self.region = region
        self.offset = offset
        // A region is whole pages: the last bytes lie in a word, too, whose other bytes stay as they are.
        pageCount = UInt64(byteCount) * 8
    }

    /// Whether there are bits for all of these bytes.
    public func covers(_ address: UInt64, byteCount: UInt64) -> Bool {
        guard byteCount > 0 else { return true }
        let (last, isBeyond) = address.addingReportingOverflow(byteCount - 1)
        return !isBeyond && last >> Self.pageShift < pageCount
    }

    /// Marks the pages of bytes that were written. What the log has no bits for is left out.
    public func mark(_ address: UInt64, byteCount: UInt64) {
        guard byteCount > 0, pageCount > 0 else { return }
        let (sum, isBeyond) = address.addingReportingOverflow(byteCount - 1)
        let last = min((isBeyond ? .max : sum) >> Self.pageShift, pageCount - 1)
        var page = address >> Self.pageShift
        while page <= last {
            // Whole words where many pages were written.
            let bit = page & 31
            let count = min(32 - bit, last - page + 1)
            let mask = UInt32(truncatingIfNeeded: ((1 << count) - 1) << bit)
            region.bitwiseOr(offset + Int(page >> 5) * 4, mask.littleEndian)
            page += count
        }
    }

    /// `log of 65536 pages`.
    public var description: String { "log of \(pageCount) pages" }
}

/// Where a ring's device marks what it writes into the ring itself.
public struct RingLog: Sendable {
    /// Where to mark.
    public let log: DirtyLog
    /// The driver's address of the device's area, as the driver's side says it.
    public let device: UInt64
    /// The driver's address of the descriptors, which the device of a packed ring writes.
    public let descriptors: UInt64

    /// The log and the addresses.
    public init(_ log: DirtyLog, device: UInt64, descriptors: UInt64) {
        self.log = log
        self.device = device
        self.descriptors = descriptors
    }

    /// Marks bytes of the device's area.
    func markDevice(_ offset: Int, _ byteCount: Int) { log.mark(device &+ UInt64(offset), byteCount: UInt64(byteCount)) }

    /// Marks `count` used elements of a split ring, and its index.
    func markUsed(_ index: Int, _ count: Int, of entries: Int) {
        markDevice(SplitLayout.index, 2)
        mark(device &+ UInt64(SplitLayout.ring), UsedElement.byteCount, index, count, of: entries)
    }

    /// Marks `count` entries of a packed ring.
    func markEntries(_ index: Int, _ count: Int, of entries: Int) {
        mark(descriptors, PackedDescriptor.byteCount, index, count, of: entries)
    }

    /// Marks elements from the one at `index` on, in a ring that begins at `start`.
    private func mark(_ start: UInt64, _ size: Int, _ index: Int, _ count: Int, of entries: Int) {
        let first = min(count, entries - index)
        log.mark(start &+ UInt64(index * size), byteCount: UInt64(first * size))
        log.mark(start, byteCount: UInt64((count - first) * size))
    }
}
