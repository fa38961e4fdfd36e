// The driver's memory as a table of mapped regions, which may lie anywhere and touch: a run that leaves one goes on in
// its neighbour. A changed table is a new value; whoever has the old one keeps its regions.

import SharedMemory

/// A table of regions by the driver's addresses. Immutable, so that any number of threads may have it.
public struct GuestMap: GuestMemory, Sendable, CustomStringConvertible {
    /// A part of the driver's memory.
    public struct Extent: Sendable {
        /// The driver's address of the first byte.
        public var address: UInt64
        /// How many bytes.
        public var byteCount: UInt64
        /// Where they are mapped.
        public var region: SharedRegion
        /// Where in it they begin.
        public var offset: Int
        /// A part.
        public init(address: UInt64, byteCount: UInt64, region: SharedRegion, offset: Int = 0) {
            self.address = address
            self.byteCount = byteCount
            self.region = region
            self.offset = offset
        }
    }

    /// The parts, by address.
    public let extents: [Extent]
    /// The first and the last byte of each, apart from the regions: a look-up touches nothing else.
    @usableFromInline let bounds: [ClosedRange<UInt64>]
    @usableFromInline let isWritable: Bool

    /// No memory.
    public init() {
        extents = []
        bounds = []
        isWritable = true
    }

    /// - Throws: `VirtqueueError.outsideMemory` for a part that is empty, wraps, is longer than its region or overlaps
    ///   another.
    public init(_ extents: [Extent]) throws(VirtqueueError) {
        let sorted = extents.sorted { $0.address < $1.address }
        var last: UInt64?
        for extent in sorted {
            let fits =
                extent.offset >= 0 && extent.offset <= extent.region.byteCount
                && extent.byteCount <= UInt64(extent.region.byteCount - extent.offset)
            guard extent.byteCount > 0, extent.address <= UInt64.max - (extent.byteCount - 1), fits,
                last.map({ $0 < extent.address }) ?? true
            else {
                throw .outsideMemory(
                    address: extent.address, byteCount: UInt32(clamping: extent.byteCount), forWriting: false)
            }
            last = extent.address + (extent.byteCount - 1)
        }
        self.extents = sorted
        bounds = sorted.map { $0.address...($0.address + ($0.byteCount - 1)) }
        isWritable = sorted.allSatisfy(\.region.isWritable)
    }

    /// The part that an address lies in, by its place in `extents`; nil: it is no memory. Few parts, so halving them is
    /// a step or two.
    @inlinable @inline(__always)
    public func extentIndex(of address: UInt64) -> Int? {
        var low = 0
        var high = bounds.count
        while low < high {
            let middle = (low &+ high) >> 1
            if bounds[middle].upperBound < address { low = middle &+ 1 } else { high = middle }
        }
        return low < bounds.count && bounds[low].lowerBound <= address ? low : nil
    }

    /// See `GuestMemory`.
    @inlinable @inline(__always)
    public func admits(_ run: GuestRun, forWriting: Bool) -> Bool {
        guard run.byteCount > 0 else { return true }
        guard var part = extentIndex(of: run.address) else { return false }
        let last = run.address &+ UInt64(run.byteCount &- 1)
        if !forWriting || isWritable, bounds[part].upperBound >= last { return true }
        while true {
            if forWriting, !extents[part].region.isWritable { return false }
            if bounds[part].upperBound >= last { return true }
            part += 1
            // The next one must begin where this one ends; a last byte of all ones has been met above.
            guard part < bounds.count, bounds[part].lowerBound == bounds[part - 1].upperBound &+ 1 else { return false }
        }
    }

    /// See `GuestMemory`.
    @inlinable @inline(__always)
    public func piece(_ run: GuestRun, forWriting: Bool) -> GuestPiece {
        guard let part = extentIndex(of: run.address) else { return .outside }
        let extent = extents[part]
        if forWriting, !extent.region.isWritable { return .outside }
        let start = run.address &- extent.address
        let left = extent.byteCount &- start
        let count = UInt64(run.byteCount) <= left ? run.byteCount : UInt32(truncatingIfNeeded: left)
        return .here(extent.region, offset: extent.offset &+ Int(start), byteCount: count)
    }

    /// `2 regions: 0x0 + 655360, 0x100000 + 267386880`.
    public var description: String {
        "\(extents.count) regions: "
            + extents.map { "0x\(String($0.address, radix: 16)) + \($0.byteCount)" }.joined(separator: ", ")
    }
}
