// The direct map's arithmetic, for callers that have no time for a call: a page's number is its place on the bus, nothing is
// limited, and nothing has to be undone when the transfer has ended.

import FrameMaps

extension DMADevice {
    /// Whether a transfer's segments may be made by `appendDirect`, with nothing to unmap.
    public var isDirect: Bool { frames == nil }
}

extension [BusSegment] {
    /// Appends a part of a page of a direct map; neighbours on the bus become one segment.
    @inlinable @inline(__always)
    public mutating func appendDirect(_ pfn: Pfn, offset: Int, byteCount: Int) {
        let address = BusAddress(rawValue: pfn.rawValue << frameShift | UInt64(truncatingIfNeeded: offset))
        if let last = last, last.address.advanced(by: UInt64(last.byteCount)) == address {
            self[count - 1].byteCount += UInt32(truncatingIfNeeded: byteCount)
        } else {
            append(BusSegment(address: address, byteCount: UInt32(truncatingIfNeeded: byteCount)))
        }
    }
}
