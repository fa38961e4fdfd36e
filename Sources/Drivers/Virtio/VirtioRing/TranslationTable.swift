// What a device behind an IOMMU may reach, as far as it was told: ranges of IO addresses, what of the driver's memory
// they are, and what may be done with it. A table of ranges, and not pages of the software IOMMU's: entries come in any
// size, at any address of 64 bits, and each look-up is another's thread. It is a cache: who does not find something
// asks.

/// What a device may do with a range.
public struct AccessRights: OptionSet, Hashable, Sendable, BitwiseCopyable {
    /// The bits as vhost has them (`VHOST_ACCESS_RO`, `VHOST_ACCESS_WO`).
    public let rawValue: UInt8
    /// Any bits.
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// The device may read it.
    public static let read = Self(rawValue: 1)
    /// The device may write it.
    public static let write = Self(rawValue: 2)
}

/// What is wrong with a range that was to be put into a table.
public enum TranslationError: Error, Equatable, Sendable, CustomStringConvertible {
    /// It has no bytes.
    case empty(UInt64)
    /// It passes the end of all addresses.
    case wraps(UInt64, byteCount: UInt64)
    /// Nothing may be done with it.
    case noRights(UInt64)
    /// A part of it is something else by an entry that was not taken back.
    case contradicts(UInt64)

    /// `IO addresses from 0x1000 on: none at all`.
    public var description: String {
        func from(_ address: UInt64) -> String { "IO addresses from 0x\(String(address, radix: 16)) on" }
        return switch self {
        case .empty(let address): "\(from(address)): none at all"
        case .wraps(let address, let count): "\(from(address)): \(count) bytes pass the end of all addresses"
        case .noRights(let address): "\(from(address)), with which nothing may be done"
        case .contradicts(let address): "\(from(address)) are something else, and were not taken back"
        }
    }
}

/// Ranges of IO addresses, in order, none of which overlaps another. A value: who has one has what was true then.
public struct TranslationTable: Sendable, Equatable, CustomStringConvertible {
    /// A range that is in one piece on both sides.
    public struct Entry: Sendable, Equatable {
        /// The first IO address.
        public var first: UInt64
        /// The last one.
        public var last: UInt64
        /// The driver's address of the first byte.
        public var target: UInt64
        /// What may be done with it.
        public var rights: AccessRights

        /// The driver's address less the IO address, which neighbours that go on in each other have in common.
        var distance: UInt64 { target &- first }
    }

    /// Entries at most: what is beyond is forgotten, and asked for again.
    public static let mostEntries = 8192

    /// The ranges, by address.
    public private(set) var entries: [Entry] = []
    /// Which entry is the next one to be forgotten where there are too many.
    private var hand = 0

    /// Nothing.
    public init() {}

    /// The place of the first entry that ends at an address or behind it.
    private func place(_ address: UInt64) -> Int {
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].last < address { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// What an IO address lies in.
    public func entry(at address: UInt64) -> Entry? {
        let place = place(address)
        return place < entries.count && entries[place].first <= address ? entries[place] : nil
    }

    /// Puts a range in. What is known already may be said again, with other rights, too.
    /// - Throws: for a range that cannot be, or that contradicts another; nothing has changed then.
    public mutating func insert(
        _ address: UInt64, byteCount: UInt64, target: UInt64, _ rights: AccessRights
    ) throws(TranslationError) {
        guard byteCount > 0 else { throw .empty(address) }
        guard !address.addingReportingOverflow(byteCount - 1).overflow, !target.addingReportingOverflow(byteCount - 1).overflow
        else { throw .wraps(address, byteCount: byteCount) }
        guard !rights.isEmpty else { throw .noRights(address) }
        var new = Entry(first: address, last: address + (byteCount - 1), target: target, rights: rights)
        var index = place(new.first)
        while index < entries.count, entries[index].first <= new.last {
            guard entries[index].distance == new.distance else { throw .contradicts(max(new.first, entries[index].first)) }
            index += 1
        }
        remove(new.first...new.last)
        index = place(new.first)
        if index < entries.count, new.last < .max, entries[index].first == new.last + 1, entries[index].goesOn(new) {
            new.last = entries[index].last
            entries.remove(at: index)
        }
        if index > 0, entries[index - 1].last == new.first &- 1, entries[index - 1].goesOn(new) {
            entries[index - 1].last = new.last
            return
        }
        entries.insert(new, at: index)
        if entries.count > Self.mostEntries { forget(sparing: index) }
    }

    /// Forgets one entry, another one each time.
    private mutating func forget(sparing index: Int) {
        hand = hand + 1 < entries.count ? hand + 1 : 0
        if hand == index { hand = index == 0 ? 1 : index - 1 }
        entries.remove(at: hand)
    }

    /// Takes a range out; entries that reach beyond it keep the rest.
    public mutating func remove(_ range: ClosedRange<UInt64>) {
        let start = place(range.lowerBound)
        var end = start
        var rest: [Entry] = []
        while end < entries.count, entries[end].first <= range.upperBound {
            let old = entries[end]
            if old.first < range.lowerBound {
                rest.append(Entry(first: old.first, last: range.lowerBound - 1, target: old.target, rights: old.rights))
            }
            if old.last > range.upperBound {
                let first = range.upperBound + 1
                rest.append(Entry(first: first, last: old.last, target: old.target + (first - old.first), rights: old.rights))
            }
            end += 1
        }
        entries.replaceSubrange(start..<end, with: rest)
        // A hole makes two of one.
        if entries.count > Self.mostEntries { forget(sparing: start) }
    }

    /// Takes everything out.
    public mutating func removeAll() { entries = [] }

    /// Tables are equal that say the same, whatever is forgotten next.
    public static func == (one: Self, other: Self) -> Bool { one.entries == other.entries }

    /// `3 ranges of IO addresses`.
    public var description: String { "\(entries.count) ranges of IO addresses" }
}

extension TranslationTable.Entry {
    /// Whether a neighbour is more of the same.
    fileprivate func goesOn(_ other: Self) -> Bool { distance == other.distance && rights == other.rights }
}
