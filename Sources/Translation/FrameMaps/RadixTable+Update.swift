// The writer's side: one at a time (the owner holds a lock, or is used by one thread). Every change is in two steps:
// the first takes all the memory that the change needs and may fail, the second changes entries and cannot. A range
// beyond the limit traps in both.

import Glibc
import Synchronization

/// The structure's tables may not grow any more.
package struct RadixFull: Error, CustomStringConvertible {
    /// One line.
    package var description: String { "the tables may not grow any more" }
}

extension RadixTable {
    /// The largest leaf that can start at `index` with `frame`: its size in pages is 1 << the result.
    @inline(__always)
    static func leafShift(_ index: UInt64, _ frame: UInt64, _ count: UInt64) -> UInt64 {
        let both = index | frame
        if both & 511 != 0 || count < 512 { return 0 }
        return both & 0x3_FFFF == 0 && count >= 1 << 18 ? 18 : 9
    }

    /// Makes the tables that a fill of these pages needs. `small`: leaves of one page only, whatever is there now.
    package func prepareFill(_ start: UInt64, _ count: UInt64, frame: UInt64, small: Bool = false) throws(RadixFull) {
        check(start, count)
        // Memory first: what idles where a large leaf goes would be given back anyway.
        if !small && count >= 512 && (start ^ frame) & 511 == 0 { dropIdle() }
        do throws(RadixFull) {
            try makeTables(start, count, frame, small)
        } catch {
            // Idle tables are memory, too. Everything is looked up again: a table above may have gone with them.
            guard dropIdle() else { throw error }
            try makeTables(start, count, frame, small)
        }
    }

    private func makeTables(_ start: UInt64, _ count: UInt64, _ frame: UInt64, _ small: Bool) throws(RadixFull) {
        var (index, frame, left) = (start, frame, count)
        while left > 0 {
            let shift = small ? 0 : Self.leafShift(index, frame, left)
            let step = shift == 0 ? min(left, 512 - (index & 511)) : 1 << shift
            do throws(RadixFull) {
                if shift < 18 { try ensureMid(index) }
                if shift == 0 { try ensureLeaves(index) }
            } catch {
                // What was made for the pages before is empty: it goes again.
                dropEmpty(start, count - left + step)
                throw error
            }
            index &+= step
            frame &+= step
            left &-= step
        }
    }

    /// Stores leaves: `word` at `start`, its frame going up by one a page. After `prepareFill` with the same range.
    /// What was there is replaced; a reader sees the one or the other.
    package func fill(_ start: UInt64, _ count: UInt64, _ word: UInt64, small: Bool = false) {
        check(start, count)
        var (index, word, left) = (start, word, count)
        // A word without a frame is the same for every page.
        let advance: UInt64 = EntryWord.hasFrame(word) ? 1 : 0
        while left > 0 {
            let shift = small ? 0 : Self.leafShift(index, advance > 0 ? EntryWord.frame(word) : index, left)
            var step: UInt64 = 1 << shift
            if shift == 18 {
                replaceTables(rootSlot(index), by: word, at: index)
            } else if shift == 9 {
                let slot = midSlot(index)
                if slot.word == 0 { rootSlot(index).add(1) }
                replaceTable(slot, by: word)
            } else {
                step = min(left, 512 - (index & 511))
                fillLeaf(midSlot(index), Int(index & 511), Int(step), word, advance << frameShift)
            }
            index &+= step
            word &+= advance &* step << frameShift
            left &-= step
        }
    }

    @inline(__always)
    private func fillLeaf(_ parent: RadixSlot, _ first: Int, _ count: Int, _ word: UInt64, _ advance: UInt64) {
        let parentWord = parent.word
        let table = RadixWords(of: parentWord)
        var word = word
        if parentWord < Self.oneSlot {
            // An empty table: nothing to look at.
            for index in first..<first + count {
                table[index].word = word
                word &+= advance
            }
            parent.word = parentWord & ~Self.pinnedBit &+ UInt64(count) &* Self.oneSlot
            return
        }
        var fresh: UInt64 = 0
        for index in first..<first + count {
            let slot = table[index]
            if slot.word == 0 { fresh &+= 1 }
            slot.word = word
            word &+= advance
        }
        if fresh > 0 { parent.add(fresh) }
    }

    /// Splits the leaves that the range cuts at its ends, so that `clear` or `fill` can change exactly these pages.
    package func prepareCut(_ start: UInt64, _ count: UInt64) throws(RadixFull) {
        guard count > 0 else { return }
        check(start, count)
        try split(at: start)
        if start + count < limit { try split(at: start + count) }
    }

    private func split(at index: UInt64) throws(RadixFull) {
        do throws(RadixFull) {
            try splitOnce(at: index)
        } catch {
            guard dropIdle() else { throw error }
            try splitOnce(at: index)
        }
    }

    private func splitOnce(at index: UInt64) throws(RadixFull) {
        let rootSlot = rootSlot(index)
        if index & 0x3_FFFF != 0, rootSlot.isLeaf { try ensureMid(index) }
        if index & 511 != 0, rootSlot.isTable, midSlot(index).isLeaf { try ensureLeaves(index) }
    }

    /// Empties these pages. After `prepareCut` with the same range.
    package func clear(_ start: UInt64, _ count: UInt64) {
        check(start, count)
        var (index, left) = (start, count)
        while left > 0 {
            let rootSlot = rootSlot(index)
            guard rootSlot.isTable else {
                if rootSlot.isLeaf { rootSlot.word = 0 }
                let step = min(left, (1 << 18) - index & 0x3_FFFF)
                index &+= step
                left &-= step
                continue
            }
            let step = min(left, 512 - (index & 511))
            clearMid(rootSlot, midSlot(index), index, step)
            index &+= step
            left &-= step
        }
    }

    @inline(__always)
    private func clearMid(_ rootSlot: RadixSlot, _ slot: RadixSlot, _ index: UInt64, _ count: UInt64) {
        let word = slot.word
        if word == 0 { return }
        if word & 7 != Self.tableTag {
            slot.word = 0
            drop(1, from: rootSlot)
        } else {
            let table = RadixWords(of: word)
            var gone: UInt64 = 0
            if word / Self.oneSlot == 512 {
                // A full one: the same.
                for place in Int(index & 511)..<Int(index & 511 + count) { table[place].word = 0 }
                gone = count
            } else {
                for place in Int(index & 511)..<Int(index & 511 + count) where table[place].word != 0 {
                    table[place].word = 0
                    gone &+= 1
                }
            }
            if gone == 0 { return }
            let left = word &- gone &* Self.oneSlot
            slot.word = left
            if left < Self.oneSlot { listIdle(slot, index) }
        }
    }

    /// Replaces each word in the range, not the nothings. After `prepareCut` with the same range.
    package func rewrite(_ start: UInt64, _ count: UInt64, _ change: (UInt64) -> UInt64) {
        check(start, count)
        var index = start
        while index < start + count {
            var slot = rootSlot(index)
            var step: UInt64 = (1 << 18) - index & 0x3_FFFF
            if slot.isTable {
                slot = midSlot(index)
                step = 512 - index & 511
                if slot.isTable {
                    slot = slot.table[Int(index & 511)]
                    step = 1
                }
            }
            let word = slot.word
            if word != 0 { slot.word = change(word) }
            index &+= step
        }
    }

    /// Takes tables out that are empty after a preparation that came to nothing.
    func dropEmpty(_ start: UInt64, _ count: UInt64) {
        check(start, count)
        var index = start & ~511
        while index < start + count {
            let rootSlot = rootSlot(index)
            if rootSlot.isTable {
                let slot = midSlot(index)
                if slot.isEmptyTable {
                    retire(slot)
                    drop(1, from: rootSlot)
                } else if rootSlot.isEmptyTable {
                    retire(rootSlot)
                }
            }
            index &+= 512
        }
    }

    // MARK: Single pages

    /// What storing one page in place came to.
    package enum InPlace { case done, occupied, needsTable }

    /// Stores one page where there is nothing and the table is there already: prepare and fill in one step, for the hot
    /// path.
    @inline(__always)
    package func storeInPlace(_ index: UInt64, _ word: UInt64) -> InPlace {
        guard index < window else { return .needsTable }
        let rootWord = rootSlot(index).word
        guard rootWord & 7 == Self.tableTag else { return rootWord == 0 ? .needsTable : .occupied }
        let slot = RadixWords(of: rootWord)[Int(truncatingIfNeeded: index >> 9 & 511)]
        let midWord = slot.word
        guard midWord & 7 == Self.tableTag else { return midWord == 0 ? .needsTable : .occupied }
        let leaf = flatSlot(index)
        guard leaf.word == 0 else { return .occupied }
        leaf.word = word
        slot.word = midWord &+ Self.oneSlot
        return .done
    }

    /// Empties one page that has a word of its own in the window; false if it has none, and nothing changes.
    @inline(__always)
    package func clearInPlace(_ index: UInt64) -> Bool {
        guard index < window else { return false }
        let leaf = flatSlot(index)
        guard leaf.word != 0 else { return false }
        // A word in the window is in a table, so both levels above it are tables.
        let slot = midSlot(index)
        let left = slot.word &- Self.oneSlot
        leaf.word = 0
        slot.word = left
        if left < Self.oneSlot, left & Self.idleBit == 0 { listIdle(slot, index) }
        return true
    }

    // MARK: Idle tables

    /// Remembers a table that has become empty.
    private func listIdle(_ slot: RadixSlot, _ index: UInt64) {
        let word = slot.word
        if word & Self.idleBit != 0 { return }
        slot.word = word | Self.idleBit
        // One for one: no change has more than one table to give back.
        if let oldest = nodes.listIdle(index & ~511) { dropIfEmpty(oldest) }
    }

    /// Takes the idle tables out that are still empty; false if none was.
    @discardableResult
    func dropIdle() -> Bool {
        var dropped = false
        for index in nodes.takeIdle() where dropIfEmpty(index) { dropped = true }
        return dropped
    }

    @discardableResult
    private func dropIfEmpty(_ index: UInt64) -> Bool {
        let rootSlot = rootSlot(index)
        guard rootSlot.isTable else { return false }
        let slot = midSlot(index)
        let word = slot.word
        guard word & 7 == Self.tableTag, word & Self.idleBit != 0 else { return false }
        slot.word = word & ~Self.idleBit
        guard word < Self.oneSlot, word & Self.pinnedBit == 0 else { return false }
        retire(slot)
        drop(1, from: rootSlot)
        return true
    }

    // MARK: Slots

    /// Traps unless the pages lie in the structure.
    @inline(__always)
    private func check(_ start: UInt64, _ count: UInt64) {
        precondition(start <= limit && count <= limit &- start, "pages beyond a table's limit")
    }

    /// The top level's slot for `index`, below the limit.
    @inline(__always)
    func rootSlot(_ index: UInt64) -> RadixSlot {
        // SAFETY: there is a slot for each index below the limit, and for what the window's last table has beyond it.
        // Who comes in with a range has checked it; other indices are in the window, or on the list of idle tables and
        // so have been in.
        unsafe RadixSlot(at: root + Int(truncatingIfNeeded: index >> 18))
    }
    /// The slot one level down, where the top level's is a table.
    @inline(__always)
    private func midSlot(_ index: UInt64) -> RadixSlot { rootSlot(index).table[Int(truncatingIfNeeded: index >> 9 & 511)] }
    /// The word of a single page in the window.
    @inline(__always)
    private func flatSlot(_ index: UInt64) -> RadixSlot {
        // SAFETY: the window has `window` words, and who asks has compared.
        unsafe RadixSlot(at: flat + Int(truncatingIfNeeded: index))
    }

    /// Makes the top slot of `index` a table: an empty one, or one that says in 512 words what the leaf said in one.
    private func ensureMid(_ index: UInt64) throws(RadixFull) {
        let slot = rootSlot(index)
        let word = slot.word
        if word & 7 == Self.tableTag { return }
        guard let node = nodes.take() else { throw RadixFull() }
        place(node, in: slot, instead: word, childShift: 9)
    }

    /// The same for the level below, whose tables are in the window if the index is. `ensureMid` comes first.
    private func ensureLeaves(_ index: UInt64) throws(RadixFull) {
        let slot = midSlot(index)
        let word = slot.word
        if word & 7 == Self.tableTag {
            if word < Self.oneSlot { slot.word = word | Self.pinnedBit }
            return
        }
        if index < window {
            guard nodes.takeInWindow() else { throw RadixFull() }
            // SAFETY: the window is of whole tables, so that this one lies in it with all of its words.
            unsafe place(RadixWords(at: flat + Int(index & ~511)), in: slot, instead: word, childShift: 0)
        } else {
            guard let node = nodes.take() else { throw RadixFull() }
            place(node, in: slot, instead: word, childShift: 0)
        }
        if word == 0 { rootSlot(index).add(1) }
        if index < window { makeHuge(Int(index >> 18)) }
    }

    private func place(_ node: RadixWords, in slot: RadixSlot, instead word: UInt64, childShift: UInt64) {
        // An address becomes a number, and by `table` an address again.
        let named = UInt64(UInt(bitPattern: unsafe node.first)) | Self.tableTag
        if word == 0 {
            slot.word = named
            return
        }
        let advance = EntryWord.hasFrame(word) ? UInt64(1) << (childShift + frameShift) : 0
        for index in 0..<512 { node[index].word = word &+ UInt64(index) &* advance }
        slot.word = named | 512 &* Self.oneSlot
    }

    /// Makes a part of the window (one top slot's, 2 MiB) a huge page when more than half of it is in use: random
    /// look-ups then miss the processor's TLB no more. Once only; where the kernel cannot, nothing changes.
    private func makeHuge(_ rootIndex: Int) {
        guard rootSlot(UInt64(rootIndex) << 18).word / Self.oneSlot > 320, !nodes.collapsed.contains(rootIndex) else { return }
        nodes.collapsed.insert(rootIndex)
        let collapse: Int32 = 25  // MADV_COLLAPSE, Linux 6.1
        // Asked for here and nowhere else (see `reservedSlots`); the last call keeps what was made.
        for advice in [MADV_HUGEPAGE, collapse, MADV_NOHUGEPAGE] {
            // SAFETY: an index of this top slot is in the window, whose memory is of whole huge pages; the words stay
            // what they are.
            _ = unsafe madvise(flat + rootIndex << 18, 2 << 20, advice)
        }
    }

    /// Lowers a top slot's count; the table goes when it is empty.
    @inline(__always)
    private func drop(_ count: UInt64, from slot: RadixSlot) {
        let word = slot.word &- count &* Self.oneSlot
        slot.word = word
        if word < Self.oneSlot { retire(slot) }
    }

    /// Takes the slot's empty table out. Memory of the window goes back to the system, a node to the next one who needs
    /// it.
    private func retire(_ slot: RadixSlot) {
        let table = slot.table
        slot.word = 0
        // Between leaving the parent and getting new words: see the file RadixTable.swift.
        structure.wrappingAdd(1, ordering: .releasing)
        if !giveBackInWindow(table) { nodes.giveBack(table) }
    }

    /// Gives a table's memory back if it is in the window; its words are 0 then, also for a late reader, as if it came
    /// later.
    func giveBackInWindow(_ table: RadixWords) -> Bool {
        // SAFETY: the addresses are compared, and a table in the window is one page of it.
        guard unsafe window > 0 && table.first >= flat && table.first < flat + Int(window) else { return false }
        nodes.giveBackInWindow()
        _ = unsafe madvise(table.first, 4096, MADV_DONTNEED)
        return true
    }
}
