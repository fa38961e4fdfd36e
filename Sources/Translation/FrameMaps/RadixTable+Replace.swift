// A large leaf in the place of tables. The parent's word changes in one store, so that a reader sees the tables or the
// leaf and nothing between; then the structure's number goes up, and only then do the tables lose their words: see
// RadixTable.swift.

import Synchronization

extension RadixTable {
    /// Stores a leaf of 512 pages; a table that was there goes.
    @inline(__always)
    func replaceTable(_ slot: RadixSlot, by word: UInt64) {
        let before = slot.word
        slot.word = word
        if before & 7 == Self.tableTag { retireBehind(RadixWords(of: before)) }
    }

    /// Stores a leaf of 262144 pages at `index`; the table that was there goes, and those below it.
    func replaceTables(_ slot: RadixSlot, by word: UInt64, at index: UInt64) {
        let before = slot.word
        slot.word = word
        guard before & 7 == Self.tableTag else { return }
        let table = RadixWords(of: before)
        structure.wrappingAdd(1, ordering: .releasing)
        for place in 0..<512 {
            let child = table[place]
            if child.isTable { clearAndGiveBack(child.table) }
        }
        clearAndGiveBack(table)
        // What is left of a huge page is none.
        nodes.collapsed.remove(Int(truncatingIfNeeded: index >> 18))
    }

    private func retireBehind(_ table: RadixWords) {
        structure.wrappingAdd(1, ordering: .releasing)
        clearAndGiveBack(table)
    }

    /// Of a table that no parent names any more.
    private func clearAndGiveBack(_ table: RadixWords) {
        if giveBackInWindow(table) { return }
        for place in 0..<512 { table[place].word = 0 }
        nodes.giveBack(table)
    }
}
