// The sixth part of a connection beside the five verbs: the driver's memory, as far as it is lent to the device. What a
// driver writes into shared memory are addresses; here they become places in mapped memory, or nothing.

import SharedMemory

/// A driver's memory by its own addresses. A value: a changed memory is another one.
public struct BusMemory: Sendable {
    /// A part of it.
    public struct Extent: Sendable {
        /// The driver's address of the first byte.
        public let address: UInt64
        /// How many bytes.
        public let byteCount: UInt64
        /// Where they are mapped.
        public let region: SharedRegion
        /// Where in it they begin.
        public let offset: Int

        /// A part; all of a region from `offset` on, where nothing else is said.
        public init(address: UInt64, region: SharedRegion, offset: Int = 0, byteCount: UInt64? = nil) {
            self.address = address
            self.region = region
            self.offset = offset
            self.byteCount = byteCount ?? UInt64(max(0, region.byteCount - max(0, offset)))
        }
    }

    /// Mapped bytes side by side.
    public struct Piece: Sendable {
        /// Where.
        public let region: SharedRegion
        /// From which byte on.
        public let offset: Int
        /// How many.
        public let byteCount: Int
    }

    /// The parts, by address.
    public let extents: [Extent]

    /// Nothing: for a device that needs only what is shared with it.
    public init() { extents = [] }

    /// - Throws: `BusError.badExtent` for a part that is empty, wraps, is longer than its region or overlaps another.
    public init(_ extents: [Extent]) throws(BusError) {
        let sorted = extents.sorted { $0.address < $1.address }
        var last: UInt64?
        for extent in sorted {
            let fits =
                extent.offset >= 0 && extent.offset <= extent.region.byteCount
                && extent.byteCount <= UInt64(extent.region.byteCount - extent.offset)
            guard extent.byteCount > 0, extent.address <= UInt64.max - (extent.byteCount - 1), fits,
                last.map({ $0 < extent.address }) ?? true
            else { throw .badExtent(address: extent.address, byteCount: extent.byteCount) }
            last = extent.address + (extent.byteCount - 1)
        }
        self.extents = sorted
    }

    /// What a run of addresses is: its pieces in order, each in one region; nil if not all of it is there, or not to be
    /// written where that is wanted. Any numbers may be asked for.
    public func reach(_ address: UInt64, byteCount: UInt64, forWriting: Bool) -> [Piece]? {
        guard byteCount == 0 || address <= UInt64.max - (byteCount - 1) else { return nil }
        var (pieces, at, left): ([Piece], UInt64, UInt64) = ([], address, byteCount)
        for extent in extents where left > 0 {
            guard at >= extent.address, at - extent.address < extent.byteCount else { continue }
            guard !forWriting || extent.region.isWritable else { return nil }
            let start = at - extent.address
            let count = min(left, extent.byteCount - start)
            pieces.append(Piece(region: extent.region, offset: extent.offset + Int(start), byteCount: Int(count)))
            left -= count
            // At the address space's very end nothing is left.
            at &+= count
        }
        return left == 0 ? pieces : nil
    }
}
