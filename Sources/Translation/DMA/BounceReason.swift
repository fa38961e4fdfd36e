// Why memory goes through the bounce pool. Every bounce has one reason, which the caller can ask for.

/// Why memory went through the bounce pool.
public enum BounceReason: Int, Sendable, CaseIterable, CustomStringConvertible {
    /// The device cannot reach the address.
    case mask
    /// Pages that are neighbours for the domain are none on the bus, and the device takes one segment only.
    case straddle
    /// The start is not aligned as the device needs.
    case alignment
    /// More segments than the device takes.
    case segments
    /// The page is another domain's, and the device cannot have such pages.
    case foreign
    /// A part of a page, where the IOMMU can only show a whole one to a device that is not to see the rest.
    case subGranule
    /// The page holds other bytes, the device is not to see them, and nothing could keep it from them.
    case untrusted
    /// `sub-granule`, as `causeway status` has it.
    public var description: String {
        switch self {
        case .mask: "mask"
        case .straddle: "straddle"
        case .alignment: "alignment"
        case .segments: "segments"
        case .foreign: "foreign"
        case .subGranule: "sub-granule"
        case .untrusted: "untrusted"
        }
    }
}

/// Several reasons.
public struct BounceReasons: OptionSet, Hashable, Sendable {
    /// A bit for each reason, by its number.
    public let rawValue: UInt8
    /// From bits.
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// One reason alone.
    public init(_ reason: BounceReason) { rawValue = 1 << UInt8(reason.rawValue) }
    /// Those that are there.
    public var reasons: [BounceReason] { BounceReason.allCases.filter { contains(BounceReasons($0)) } }
}

/// A piece of a transfer that went through the pool.
public struct BouncedPiece: Hashable, Sendable {
    /// Where in the transfer its bytes are.
    public var offset: UInt64
    /// Its bytes.
    public var byteCount: UInt32
    /// Why.
    public var reason: BounceReason
}

/// A counter for each reason.
public struct BounceCounts: Hashable, Sendable {
    private var counts: InlineArray<7, UInt64> = InlineArray(repeating: 0)
    /// Pieces that bounced for a reason.
    public internal(set) subscript(reason: BounceReason) -> UInt64 {
        get { counts[reason.rawValue] }
        set { counts[reason.rawValue] = newValue }
    }
    /// All of them.
    public var total: UInt64 { BounceReason.allCases.reduce(0) { $0 &+ self[$1] } }

    /// Whether every counter is the same.
    public static func == (a: BounceCounts, b: BounceCounts) -> Bool { BounceReason.allCases.allSatisfy { a[$0] == b[$0] } }
    /// All counters, in the order of the reasons.
    public func hash(into hasher: inout Hasher) { for reason in BounceReason.allCases { hasher.combine(self[reason]) } }
    /// Adds another's.
    public static func += (a: inout BounceCounts, b: BounceCounts) {
        for reason in BounceReason.allCases { a[reason] &+= b[reason] }
    }
}
