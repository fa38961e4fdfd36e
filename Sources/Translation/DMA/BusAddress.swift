// What a device sees: bus addresses and runs of them. A device never sees a page by any other name.

import FrameMaps

/// An address on a device's bus.
public typealias BusAddress = FrameMaps.BusAddress
/// An address before an IOMMU.
public typealias Iova = FrameMaps.Iova
/// A page in the numbering of the domain that drives the device.
public typealias Pfn = FrameMaps.Pfn

/// A contiguous run of bus addresses.
public struct BusSegment: Hashable, Sendable {
    /// The first byte.
    public var address: BusAddress
    /// Bytes, at least 1.
    public var byteCount: UInt32
    /// A run of `byteCount` bytes.
    @inlinable public init(address: BusAddress, byteCount: UInt32) {
        self.address = address
        self.byteCount = byteCount
    }
}
