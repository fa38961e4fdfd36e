// From a grant reference to the place of its mapped page, for every slot of every packet: an open table of plain
// values, for a dictionary's look-up with its reference counts costs more than all else that is done for a small
// packet.

import FrameMaps
import LinuxSystem

/// Mapped pages' numbers in the queue's frame map, by reference. Its size is set by the number of pages that may stay
/// mapped, not by the references, which the frontend chooses.
struct GrantIndex {
    private struct Entry {
        /// 0: nothing is here; no page has that number.
        var page: UInt64 = 0
        var reference: UInt32 = 0
        var isWritable = false
    }

    private var entries: [Entry]
    private let shift: UInt64
    /// Secret and odd: a frontend cannot choose references that all fall on one place.
    private let factor: UInt64
    private(set) var count = 0

    /// Room for `limit` pages.
    init(limit: Int, random: any RandomSource) {
        factor = random.next() | 1
        var bits: UInt64 = 4
        while 1 << bits < 2 * limit { bits += 1 }
        entries = Array(repeating: Entry(), count: 1 << Int(bits))
        shift = 64 - bits
    }

    private func first(_ reference: UInt32) -> Int { Int(truncatingIfNeeded: ((UInt64(reference) &+ 1) &* factor) >> shift) }

    /// The page; nil if it is not mapped, or not writable though it must be.
    @inline(__always)
    func page(_ reference: UInt32, writable: Bool) -> Pfn? {
        if count == 0 { return nil }
        var place = first(reference)
        while entries[place].page != 0 {
            if entries[place].reference == reference {
                return writable && !entries[place].isWritable ? nil : Pfn(rawValue: entries[place].page)
            }
            place = (place + 1) & (entries.count - 1)
        }
        return nil
    }

    /// Notes a page that is not there yet; there must be room.
    mutating func insert(_ reference: UInt32, _ page: Pfn, isWritable: Bool) {
        precondition(2 * (count + 1) <= entries.count && page.rawValue != 0, "a full index, or no page")
        var place = first(reference)
        while entries[place].page != 0 { place = (place + 1) & (entries.count - 1) }
        entries[place] = Entry(page: page.rawValue, reference: reference, isWritable: isWritable)
        count += 1
    }

    /// Forgets everything.
    mutating func removeAll() {
        for place in entries.indices { entries[place] = Entry() }
        count = 0
    }
}
