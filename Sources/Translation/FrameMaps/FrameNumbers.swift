// Frame numbers: which page, in whose numbering. Four types that never mix; a number of one kind becomes one of another
// only by a translation.

/// A page's number in one numbering. No arithmetic operators: a step is spelt `advanced(by:)`, which cannot wrap.
public protocol FrameNumber: RawRepresentable, Hashable, Sendable, CustomStringConvertible where RawValue == UInt64 {
    /// The number as the system that it came from writes it. Any value may be wrapped; what is out of range translates
    /// to nothing.
    init(rawValue: UInt64)
    /// The letter before the number in messages.
    static var prefix: String { get }
}

/// Bits of an address inside a page; every frame is 4 KiB (`XEN_PAGE_SHIFT`).
public let frameShift: UInt64 = 12
/// Bytes in a frame.
public let frameByteCount: UInt64 = 1 << frameShift
/// One past the largest frame number whose bytes have 64-bit addresses.
public let frameNumberLimit: UInt64 = 1 << (64 - frameShift)

extension FrameNumber {
    /// The frame `count` pages on, or nil if it would leave the 64-bit address space.
    @inlinable public func advanced(by count: UInt64) -> Self? {
        let (sum, overflow) = rawValue.addingReportingOverflow(count)
        return overflow || sum >= frameNumberLimit ? nil : Self(rawValue: sum)
    }
    /// Pages from `other` up to here, or nil if here is below it.
    @inlinable public func distance(from other: Self) -> UInt64? {
        rawValue >= other.rawValue ? rawValue &- other.rawValue : nil
    }
    /// `p0x1a2b`.
    public var description: String { "\(Self.prefix)0x\(String(rawValue, radix: 16))" }
}

/// A frame as a domain numbers its memory (pseudo-physical).
public struct Pfn: FrameNumber {
    /// The number; a byte address shifted by 12.
    public let rawValue: UInt64
    /// Takes any number.
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// What it is printed with.
    public static var prefix: String { "p" }
}

/// A frame as a domain names it to the hypervisor: its mfn when it is paravirtual, its pfn when it is auto-translated.
public struct Gfn: FrameNumber {
    /// The number; a byte address shifted by 12.
    public let rawValue: UInt64
    /// Takes any number.
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// What it is printed with.
    public static var prefix: String { "g" }
}

/// A frame of the machine.
public struct Mfn: FrameNumber {
    /// The number; a byte address shifted by 12.
    public let rawValue: UInt64
    /// Takes any number.
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// What it is printed with.
    public static var prefix: String { "m" }
}

/// A frame as devices see it when no IOMMU stands between (Xen's dfn): the mfn where the domain knows it, else its own
/// frame number.
public struct BusFrame: FrameNumber {
    /// The number; a byte address shifted by 12.
    public let rawValue: UInt64
    /// Takes any number.
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    /// A machine frame on a bus without an IOMMU.
    @inlinable public init(_ frame: Mfn) { self.init(rawValue: frame.rawValue) }
    /// An auto-translated domain's frame, which the IOMMU or the hypervisor translates further.
    @inlinable public init(_ frame: Gfn) { self.init(rawValue: frame.rawValue) }
    /// What it is printed with.
    public static var prefix: String { "b" }
}
