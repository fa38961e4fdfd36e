// One entry of a p2m as a reader meets it, and what a reader may find wrong with a table.

import FrameMaps

/// An entry as it stands in a table, before anything is believed of it.
public struct TableEntry: Hashable, Sendable {
    /// What the entry says of its page.
    public enum Kind: Sendable {
        /// The domain's own memory.
        case local
        /// No memory; its number on the bus is its own.
        case identity
        /// Another domain's page, mapped by a grant.
        case foreign
    }
    /// The domain's number.
    public var pfn: UInt64
    /// The frame, without marks.
    public var frame: UInt64
    /// What it says of the page.
    public var kind: Kind
    /// An entry.
    @inlinable public init(pfn: UInt64, frame: UInt64, kind: Kind = .local) {
        self.pfn = pfn
        self.frame = frame
        self.kind = kind
    }
}

/// Something in a table that should not be. The rest of the table is read all the same.
public enum TableFinding: Hashable, Sendable, CustomStringConvertible {
    /// A page number beyond what a domain can have.
    case pfnOutOfRange(UInt64, entry: UInt64)
    /// A frame beyond the machine's memory.
    case frameOutOfRange(Pfn, frame: UInt64)
    /// The frame is at another pfn already: one of the two is wrong, or both share it.
    case alias(Pfn, frame: UInt64, first: Pfn)
    /// A second entry for a pfn.
    case duplicate(Pfn, frame: UInt64, first: UInt64)
    /// An identity or foreign entry whose frame is the domain's own at another pfn.
    case conflict(Pfn, frame: UInt64, with: Pfn)
    /// An entry with a smaller pfn than the one before it.
    case notAscending(entry: UInt64)
    /// An entry in use after one that is not: unused entries belong at the end.
    case afterUnused(entry: UInt64)
    /// Pages that the table has and the file has not: it was cut short.
    case contentsMissing(firstEntry: UInt64, count: UInt64, offset: UInt64)
    /// A part of the dump that translation does not need, and that is not as it should be.
    case section(DumpError)
    /// The hypervisor's own table has another pfn for the frame, or none.
    case machineTableDiffers(Pfn, frame: UInt64, says: UInt64?)
    /// The frame does not come back to the pfn through the map's own reverse table.
    case doesNotComeBack(Pfn)

    /// What is wrong, in one line.
    public var description: String {
        func m(_ frame: UInt64) -> String { Mfn(rawValue: frame).description }
        return switch self {
        case .pfnOutOfRange(let pfn, let entry): "entry \(entry): \(Pfn(rawValue: pfn)) is beyond what a domain can have"
        case .frameOutOfRange(let pfn, let frame): "\(pfn): \(m(frame)) is beyond the machine's memory"
        case .alias(let pfn, let frame, let first): "\(pfn): \(m(frame)) is at \(first) already"
        case .duplicate(let pfn, let frame, let first): "\(pfn): a second entry, \(m(frame)) after \(m(first))"
        case .conflict(let pfn, let frame, let other): "\(pfn): no memory of the domain's, yet \(m(frame)) is its own at \(other)"
        case .notAscending(let entry): "entry \(entry): a smaller pfn than the entry before"
        case .afterUnused(let entry): "entry \(entry): in use after an unused one"
        case .contentsMissing(let first, let count, let offset):
            "pages \(first) to \(first + count - 1) lie beyond the file's end, from offset \(hexadecimal(offset)) on"
        case .section(let error): error.description
        case .machineTableDiffers(let pfn, let frame, let says):
            "\(pfn): Xen's own table says \(says.map { Pfn(rawValue: $0).description } ?? "nothing") of \(m(frame))"
        case .doesNotComeBack(let pfn): "\(pfn): its frame does not come back to it"
        }
    }
}

/// What was found, the first of it in words.
public struct TableFindings: Hashable, Sendable {
    /// Findings kept; the rest are counted.
    public static let limit = 64
    /// The first of them.
    public private(set) var records: [TableFinding] = []
    /// All of them.
    public private(set) var count: UInt64 = 0
    /// Nothing found.
    public init() {}

    /// Adds one.
    public mutating func record(_ finding: TableFinding) {
        count += 1
        if records.count < Self.limit { records.append(finding) }
    }
    /// Adds others.
    public mutating func add(_ others: TableFindings) {
        count += others.count
        records += others.records.prefix(Self.limit - records.count)
    }
}
