// A fault as somebody wants it: what, how often, by which seed. A value; what becomes of it is FaultBook's.

/// What a request asks of a disk, for faults that are meant for some of them.
public enum FaultOperation: String, CaseIterable, Hashable, Sendable {
    /// Reads.
    case read
    /// Writes.
    case write
    /// Flushes, those around a barrier, too.
    case flush
    /// Discards, and ranges that are made zero.
    case discard
}

/// A fault that is to be set.
public struct FaultPlan: Equatable, Sendable {
    /// What it is called, so that it can be undone; empty: after its kind.
    public var name = ""
    /// What goes wrong.
    public var kind: DeviceFault
    /// Which side of the device does it.
    public var side = FaultSide.back
    /// How often at most; nil: as the kind has it, without an end or once.
    public var count: UInt64?
    /// It strikes by chance, at one of so many occasions on the average; 1: at each.
    public var every: UInt64 = 1
    /// Where its chance comes from.
    public var seed: UInt64 = 0
    /// How long it lasts; nil: as the kind has it.
    public var milliseconds: UInt64?
    /// Requests that it is meant for; empty: all.
    public var operations: Set<FaultOperation> = []
    /// Sectors of 512 bytes that it is meant for; nil: all, and requests that have none.
    public var sectors: ClosedRange<UInt64>?
    /// To whom the frames go that it is meant for, and of whose ring it is; nil: both.
    public var toward: FaultSide?

    /// A fault of this kind, at every occasion.
    public init(_ kind: DeviceFault) { self.kind = kind }

    /// The longest that one may last.
    public static let mostMilliseconds: UInt64 = 600_000
    private static let mostNameBytes = 64

    /// Holds what is said against what the kind is.
    /// - Throws: the first thing that cannot be.
    public func validate(for subject: FaultSubject) throws(FaultError) {
        let known = DeviceFault.known(subject, side)
        guard known.contains(kind) else { throw .unknownKind(kind.rawValue, subject, side) }
        guard name.utf8.count <= Self.mostNameBytes, name.utf8.allSatisfy(Self.isOfNames) else { throw .badName(name) }
        guard name != "all" else { throw .badName(name) }
        let options = kind.options(subject, side)
        if let milliseconds {
            guard options.contains(.milliseconds) else { throw .foreign("--ms", kind, subject, side) }
            guard (1...Self.mostMilliseconds).contains(milliseconds) else {
                throw .badValue("--ms", "\(milliseconds)", "1 to \(Self.mostMilliseconds)")
            }
        }
        if !operations.isEmpty, !options.contains(.requests) { throw .foreign("--operation", kind, subject, side) }
        if sectors != nil, !options.contains(.requests) { throw .foreign("--sectors", kind, subject, side) }
        if toward != nil, !options.contains(.toward) { throw .foreign("--toward", kind, subject, side) }
        if count == 0 { throw .badValue("--count", "0", "1 or more") }
        if every == 0 { throw .badValue("--every", "0", "1 or more") }
    }

    private static func isOfNames(_ byte: UInt8) -> Bool {
        (0x61...0x7A).contains(byte) || (0x41...0x5A).contains(byte) || (0x30...0x39).contains(byte) || byte == 0x2D || byte == 0x5F
    }

    /// Whether it is meant for such a request.
    /// - Parameter touched: its sectors; nil: it has none, or they are everywhere.
    func isMeant(for operation: FaultOperation, _ touched: Range<UInt64>?) -> Bool {
        if !operations.isEmpty, !operations.contains(operation) { return false }
        guard let sectors else { return true }
        guard let touched, !touched.isEmpty else { return false }
        return touched.lowerBound <= sectors.upperBound && sectors.lowerBound < touched.upperBound
    }

    /// What it is meant for, how long and how often, as it was said: `50 ms, read, sectors 0-7, one in 4`.
    var summary: String {
        var parts: [String] = []
        if let milliseconds = milliseconds ?? kind.usualMilliseconds { parts.append("\(milliseconds) ms") }
        if !operations.isEmpty {
            parts.append(FaultOperation.allCases.filter(operations.contains).map(\.rawValue).joined(separator: "+"))
        }
        if let sectors { parts.append("sectors \(sectors.lowerBound)-\(sectors.upperBound)") }
        if let toward { parts.append("toward \(toward.rawValue)") }
        if every > 1 { parts.append("one in \(every)") }
        return parts.joined(separator: ", ")
    }
}
