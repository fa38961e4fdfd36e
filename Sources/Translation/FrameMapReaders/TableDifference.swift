// Two readings of a p2m beside each other: a dump and the running domain, or two dumps.

import FrameMaps

/// What is not the same in two tables.
public struct TableDifference: Hashable, Sendable {
    /// A page that only one has, or that is elsewhere in the other.
    public struct Change: Hashable, Sendable, CustomStringConvertible {
        /// Which page.
        public var pfn: Pfn
        /// Its frame in the first table; nil: not there.
        public var first: BusFrame?
        /// Its frame in the second one.
        public var second: BusFrame?
        /// `p0x10: m0x20, then nothing`.
        public var description: String {
            func name(_ frame: BusFrame?) -> String { frame.map { Mfn(rawValue: $0.rawValue).description } ?? "nothing" }
            return "\(pfn): \(name(first)), then \(name(second))"
        }
    }
    /// The first changes.
    public private(set) var changes: [Change] = []
    /// All of them.
    public private(set) var count: UInt64 = 0
    /// Pages that are the same.
    public private(set) var same: UInt64 = 0
    /// Changes kept.
    public static let limit = 64

    /// Compares the domain's own pages: foreign and identity ones, which a dump does not have, are left out.
    public init(_ first: TableSnapshot, _ second: TableSnapshot) {
        func own(_ table: TableSnapshot, _ pfn: Pfn) -> BusFrame? {
            if case .local(let answer) = table.map.entry(at: pfn) { return answer.frame }
            return table.aliases[pfn.rawValue].map { BusFrame(rawValue: $0) }
        }
        func note(_ change: Change) {
            count += 1
            if changes.count < Self.limit { changes.append(change) }
        }
        first.forEachPage { pfn, entry in
            guard case .local(let answer) = entry else { return }
            let other = own(second, pfn)
            if other == answer.frame { same += 1 } else { note(Change(pfn: pfn, first: answer.frame, second: other)) }
        }
        for (number, frame) in first.aliases.sorted(by: { $0.key < $1.key }) {
            let pfn = Pfn(rawValue: number), frame = BusFrame(rawValue: frame), other = own(second, pfn)
            if other == frame { same += 1 } else { note(Change(pfn: pfn, first: frame, second: other)) }
        }
        second.forEachPage { pfn, entry in
            guard case .local(let answer) = entry, own(first, pfn) == nil else { return }
            note(Change(pfn: pfn, first: nil, second: answer.frame))
        }
        for (number, frame) in second.aliases.sorted(by: { $0.key < $1.key }) where own(first, Pfn(rawValue: number)) == nil {
            note(Change(pfn: Pfn(rawValue: number), first: nil, second: BusFrame(rawValue: frame)))
        }
    }
}
