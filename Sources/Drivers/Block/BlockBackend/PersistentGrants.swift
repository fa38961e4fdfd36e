// Grants that stay mapped: what a frontend has used before is found here by its reference. A bounded cache with a true
// least-recently-used order, of one queue of one connection; a grant in use is never evicted and never handed out
// twice.

import DMA
import Hypervisor
import XenTypes

/// The grants that one queue keeps mapped.
struct PersistentGrants {
    /// One mapped grant, linked by age.
    private struct Entry {
        var grant: MappedGrant?
        var page: Pfn
        var isInUse: Bool
        var newer: Int32
        var older: Int32
    }

    private var entries: [Entry] = []
    private var free: [Int32] = []
    /// Slot by reference. References are small numbers in practice, so a table; what is beyond it goes to the
    /// dictionary, since a hostile frontend must not choose the table's size.
    private var table: [Int32] = []
    private var beyond: [GrantReference: Int32] = [:]
    private static let tableLimit = 1 << 16
    private var newest: Int32 = -1
    private var oldest: Int32 = -1

    /// The most grants kept.
    let limit: Int
    /// Grants kept now.
    private(set) var count = 0
    /// Look-ups that found their grant, and that did not.
    private(set) var hits: UInt64 = 0
    private(set) var misses: UInt64 = 0
    /// Grants given up for others.
    private(set) var evictions: UInt64 = 0

    init(limit: Int) { self.limit = max(0, limit) }

    /// What a look-up finds.
    enum Found {
        /// The grant is mapped and now in use by the caller.
        case slot(Int32)
        /// It is not mapped.
        case absent
        /// It is in use by another request: this one maps it once more, for itself (protocol-rules.md 16,
        /// attacks.md A26).
        case busy
    }

    /// Looks `reference` up and takes it into use.
    @inline(__always)
    mutating func acquire(_ reference: GrantReference) -> Found {
        let slot = find(reference)
        guard slot >= 0 else {
            misses &+= 1
            return .absent
        }
        if entries[Int(slot)].isInUse { return .busy }
        entries[Int(slot)].isInUse = true
        hits &+= 1
        if newest != slot {
            unlink(slot)
            linkNewest(slot)
        }
        return .slot(slot)
    }

    /// The place of a page in use in the frame map.
    @inline(__always)
    func page(_ slot: Int32) -> Pfn { entries[Int(slot)].page }

    /// The mapping in `slot`.
    func grant(_ slot: Int32) -> MappedGrant? { entries[Int(slot)].grant }

    /// Ends a use; the grant stays mapped.
    @inline(__always)
    mutating func release(_ slot: Int32) { entries[Int(slot)].isInUse = false }

    /// Keeps a freshly mapped grant, in use by the caller. nil if it is not to be kept: everything is in use, or the
    /// reference is here already. What had to go for it is appended to `evicted`.
    mutating func insert(_ grant: MappedGrant, at page: Pfn, evicted: inout [MappedGrant]) -> Int32? {
        guard find(grant.reference) < 0 else { return nil }
        if count >= limit {
            guard let old = evictOldest() else { return nil }
            evicted.append(old)
        }
        let entry = Entry(grant: grant, page: page, isInUse: true, newer: -1, older: -1)
        let slot: Int32
        if let reused = free.popLast() {
            slot = reused
            entries[Int(slot)] = entry
        } else {
            slot = Int32(entries.count)
            entries.append(entry)
        }
        setIndex(grant.reference, slot)
        linkNewest(slot)
        count += 1
        return slot
    }

    /// Gives everything up, in use or not: the queue is closing and nothing is in flight.
    mutating func removeAll() -> [MappedGrant] {
        let all = entries.compactMap(\.grant)
        self = PersistentGrants(limit: limit)
        return all
    }

    /// Gives up every grant that is not in use.
    mutating func removeIdle() -> [MappedGrant] {
        var all: [MappedGrant] = []
        while let grant = evictOldest() { all.append(grant) }
        return all
    }

    private mutating func evictOldest() -> MappedGrant? {
        var slot = oldest
        while slot >= 0 && entries[Int(slot)].isInUse { slot = entries[Int(slot)].newer }
        guard slot >= 0, let grant = entries[Int(slot)].grant else { return nil }
        unlink(slot)
        setIndex(grant.reference, -1)
        entries[Int(slot)].grant = nil
        free.append(slot)
        count -= 1
        evictions &+= 1
        return grant
    }

    @inline(__always)
    private func find(_ reference: GrantReference) -> Int32 {
        let index = Int(reference.rawValue)
        if index < table.count { return table[index] }
        return index < Self.tableLimit ? -1 : beyond[reference] ?? -1
    }

    private mutating func setIndex(_ reference: GrantReference, _ slot: Int32) {
        let index = Int(reference.rawValue)
        guard index < Self.tableLimit else {
            beyond[reference] = slot < 0 ? nil : slot
            return
        }
        if index >= table.count {
            table.append(
                contentsOf: repeatElement(
                    -1, count: max(index + 1, min(table.count * 2, Self.tableLimit)) - table.count))
        }
        table[index] = slot
    }

    private mutating func unlink(_ slot: Int32) {
        let (newer, older) = (entries[Int(slot)].newer, entries[Int(slot)].older)
        if newer >= 0 { entries[Int(newer)].older = older } else { newest = older }
        if older >= 0 { entries[Int(older)].newer = newer } else { oldest = newer }
    }

    private mutating func linkNewest(_ slot: Int32) {
        entries[Int(slot)].older = newest
        entries[Int(slot)].newer = -1
        if newest >= 0 { entries[Int(newest)].newer = slot } else { oldest = slot }
        newest = slot
    }
}
