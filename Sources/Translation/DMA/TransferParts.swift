// A transfer that a device cannot take in one, cut into parts that it can.

import FrameMaps

/// How far into a transfer's segments one is.
public struct TransferPlace: Hashable, Sendable {
    /// The segment that comes next.
    public var segment = 0
    /// Bytes of it that are done.
    public var offset: UInt32 = 0

    /// The beginning.
    @inlinable public init() {}

    /// Goes on by bytes that the segments have.
    @inlinable
    public mutating func advance(_ byteCount: UInt64, in segments: Span<DeviceSegment>) {
        var left = byteCount
        while left > 0, segment < segments.count {
            let here = UInt64(segments[segment].byteCount - offset)
            if left < here {
                offset += UInt32(truncatingIfNeeded: left)
                return
            }
            left -= here
            segment += 1
            offset = 0
        }
    }
}

extension DMAConstraints {
    /// Bytes from `place` on that a device with this virtual boundary takes in one transfer, as many as there may be.
    /// nil: it can be cut nowhere, for a unit of the device's lies on both sides of a gap.
    /// - Parameters:
    ///   - segments: the whole transfer; none of them empty.
    ///   - most: the most bytes of a part; at least `unit`.
    ///   - unit: every part but the last is a multiple of this: the device's block, a power of two.
    public func partByteCount(
        of segments: Span<DeviceSegment>, from place: TransferPlace, most: UInt64, unit: UInt32
    ) -> UInt64? {
        var (count, end) = (UInt64(0), UInt64(0))
        var (index, offset) = (place.segment, UInt64(place.offset))
        while index < segments.count {
            let start = segments[index].address.rawValue &+ offset
            if count > 0, start != end, (start | end) & virtualBoundaryMask != 0 { break }
            let left = UInt64(segments[index].byteCount) - offset
            let taken = min(left, most - count)
            count += taken
            if taken < left { break }
            end = start &+ taken
            index += 1
            offset = 0
        }
        if index == segments.count { return count }
        let whole = count & ~UInt64(unit - 1)
        return whole == 0 ? nil : whole
    }
}
