// A sparse array of 64-bit words by frame number, three levels of 512 (the top one as wide as needed). Any number of readers go through it
// without a lock while one writer changes it. Frame maps, their reverse and IO page tables are all made of it.
//
// A word's low three bits are its kind: 0 nothing, 7 a table one level down, else a leaf whose frame starts at bit 12. A leaf above the
// lowest level stands for 512 or 262144 pages whose frames go up by one. A table's word also counts the slots in use below (bits 48 on:
// user addresses end below 2^47), so that an empty table is noticed without looking through it.
//
// How readers stay right: tables are memory of one type until the whole structure goes, so a late reader reads a word, never a freed page.
// A table that is taken out for reuse first leaves its parent, then the structure's number goes up, then the table gets new words; each
// store releases, each load acquires. A reader that met a reused word therefore finds the number changed, and starts again. Single entries
// change by one store, with no number: a reader sees the old or the new one.

import Synchronization

/// What a walk finds.
@usableFromInline
package struct RadixLeaf {
    /// The word for the index asked for (its frame already moved to it), or 0.
    @usableFromInline package let word: UInt64
    /// Pages from the index to the end of the leaf or of the hole; at least 1 below the limit.
    @usableFromInline package let pages: UInt64
    @inlinable @inline(__always) init(word: UInt64, pages: UInt64) {
        self.word = word
        self.pages = pages
    }
}

@safe
@usableFromInline
package struct RadixTable: ~Copyable, @unchecked Sendable {
    @usableFromInline package typealias Slots = UnsafeMutablePointer<Atomic<UInt64>>

    @usableFromInline let root: Slots
    /// One past the largest index.
    @usableFromInline package let limit: UInt64
    @usableFromInline let structure: Atomic<UInt64>
    /// Memory for tables; the writer's.
    let nodes: RadixNodes

    @usableFromInline static let tableTag: UInt64 = 7
    @usableFromInline static let addressMask: UInt64 = 0x0000_FFFF_FFFF_F000
    static let oneSlot: UInt64 = 1 << 48
    /// The widest structure: 2^40 frames, 4 PiB.
    package static let widest: UInt64 = 1 << 40

    /// Room for indices below `limit` (at most `widest`), with up to `tableLimit` tables.
    package init(limit: UInt64, tableLimit: Int) {
        self.limit = min(limit, Self.widest)
        unsafe root = zeroedSlots(rootCount(self.limit))
        structure = Atomic(0)
        nodes = RadixNodes(limit: tableLimit)
    }

    deinit { unsafe root.deallocate() }

    /// Tables in use.
    package var tableCount: Int { nodes.inUse }

    // SAFETY: a table word is made by `ensureTable` only, from a node that lives as long as the structure.
    @inlinable @inline(__always)
    static func table(_ word: UInt64) -> Slots {
        unsafe UnsafeMutablePointer(bitPattern: UInt(truncatingIfNeeded: word & addressMask)).unsafelyUnwrapped
    }

    /// The word at `index`. Any thread; no lock.
    @inlinable @inline(__always)
    package func load(_ index: UInt64) -> RadixLeaf {
        guard index < limit else { return RadixLeaf(word: 0, pages: 0) }
        while true {
            let seen = structure.load(ordering: .acquiring)
            var shift: UInt64 = 18
            var word = unsafe root[Int(truncatingIfNeeded: index >> 18)].load(ordering: .acquiring)
            if word & 7 == Self.tableTag {
                shift = 9
                word = unsafe Self.table(word)[Int(truncatingIfNeeded: index >> 9 & 511)].load(ordering: .acquiring)
                if word & 7 == Self.tableTag {
                    word = unsafe Self.table(word)[Int(truncatingIfNeeded: index & 511)].load(ordering: .acquiring)
                    if structure.load(ordering: .relaxed) == seen { return RadixLeaf(word: word, pages: 1) }
                    continue
                }
            }
            if structure.load(ordering: .relaxed) == seen {
                let within = index & ((1 << shift) &- 1)
                let pages = min((1 << shift) &- within, limit &- index)
                return RadixLeaf(word: word == 0 ? 0 : word &+ within << frameShift, pages: pages)
            }
        }
    }
}

/// Slots of the top level.
private func rootCount(_ limit: UInt64) -> Int { Int(max(1, (limit + (1 << 18) - 1) >> 18)) }

private func zeroedSlots(_ count: Int) -> RadixTable.Slots {
    let raw = UnsafeMutableRawPointer.allocate(byteCount: count * 8, alignment: 4096)
    unsafe raw.initializeMemory(as: UInt64.self, repeating: 0, count: count)
    // SAFETY: an atomic of a 64-bit word has that word's layout.
    return unsafe raw.assumingMemoryBound(to: Atomic<UInt64>.self)
}
