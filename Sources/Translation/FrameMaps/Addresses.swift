// Addresses in bytes, and the part of an address inside its page.

/// An address on a device's bus. No arithmetic operators: a step is spelt `advanced(by:)`, which cannot wrap.
public struct BusAddress: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The address in bytes.
    public let rawValue: UInt64
    /// Wraps an address.
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// A byte of a frame. Frames beyond the 64-bit address space wrap, which no translation yields.
    @inlinable public init(_ frame: BusFrame, _ offset: PageOffset) {
        rawValue = frame.rawValue << frameShift | UInt64(offset.rawValue)
    }
    /// The address `count` bytes on, or nil if it would wrap.
    @inlinable public func advanced(by count: UInt64) -> BusAddress? {
        let (sum, overflow) = rawValue.addingReportingOverflow(count)
        return overflow ? nil : BusAddress(rawValue: sum)
    }
    /// The frame it lies in.
    @inlinable public var frame: BusFrame { BusFrame(rawValue: rawValue >> frameShift) }
    /// Where in that frame.
    @inlinable public var offset: PageOffset { PageOffset(ofAddress: rawValue) }
    /// Hexadecimal.
    public var description: String { "0x" + String(rawValue, radix: 16) }
}

/// An address in a device's own IO address space, before its IOMMU.
public struct Iova: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The address in bytes.
    public let rawValue: UInt64
    /// Wraps an address.
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// The address `count` bytes on, or nil if it would wrap.
    @inlinable public func advanced(by count: UInt64) -> Iova? {
        let (sum, overflow) = rawValue.addingReportingOverflow(count)
        return overflow ? nil : Iova(rawValue: sum)
    }
    /// The number of its page.
    @inlinable public var page: UInt64 { rawValue >> frameShift }
    /// Where in that page.
    @inlinable public var offset: PageOffset { PageOffset(ofAddress: rawValue) }
    /// Hexadecimal.
    public var description: String { "iova 0x" + String(rawValue, radix: 16) }
}

/// A byte's place in its page: 0 to 4095.
public struct PageOffset: Hashable, Sendable, CustomStringConvertible {
    /// Bytes from the page's start.
    public let rawValue: UInt16
    /// nil unless `rawValue` is below 4096.
    @inlinable public init?(_ rawValue: Int) {
        guard rawValue >= 0, rawValue < Int(frameByteCount) else { return nil }
        self.rawValue = UInt16(truncatingIfNeeded: rawValue)
    }
    /// The low bits of an address of any kind.
    @inlinable public init(ofAddress address: UInt64) {
        rawValue = UInt16(truncatingIfNeeded: address & (frameByteCount &- 1))
    }
    /// The page's first byte.
    public static let zero = PageOffset(ofAddress: 0)
    /// Bytes from here to the page's end.
    @inlinable public var bytesLeft: UInt64 { frameByteCount &- UInt64(rawValue) }
    /// `+0x7f0`.
    public var description: String { "+0x" + String(rawValue, radix: 16) }
}
