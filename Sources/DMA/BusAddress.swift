// What a device sees: bus addresses and runs of them. A device never sees a page by any other name.

/// An address on a device's bus. No arithmetic operators: a step is spelt `advanced(by:)`, which cannot wrap.
public struct BusAddress: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The address in bytes.
    public let rawValue: UInt64
    /// Wraps an address.
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// The address `count` bytes on, or nil if it would wrap.
    @inlinable public func advanced(by count: UInt64) -> BusAddress? {
        let (sum, overflow) = rawValue.addingReportingOverflow(count)
        return overflow ? nil : BusAddress(rawValue: sum)
    }
    /// Hexadecimal.
    public var description: String { "0x" + String(rawValue, radix: 16) }
}

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
