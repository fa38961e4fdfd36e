// The writer's side: one at a time (the owner holds a lock). Every change is in two steps: the first takes all the memory that the
// change needs and may fail, the second changes entries and cannot.

import Glibc
import Synchronization

/// The structure's tables may not grow any more.
package struct RadixFull: Error {}

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
        // Where a large leaf goes no idle table may stand: it would be lost.
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
    package func fill(_ start: UInt64, _ count: UInt64, _ word: UInt64, small: Bool = false) {
        var (index, word, left) = (start, word, count)
        // A word without a frame is the same for every page.
        let advance: UInt64 = EntryWord.hasFrame(word) ? 1 : 0
        while left > 0 {
            let shift = small ? 0 : Self.leafShift(index, advance > 0 ? EntryWord.frame(word) : index, left)
            let rootSlot = unsafe root + Int(index >> 18)
            var step: UInt64 = 1 << shift
            if shift == 18 {
                unsafe rootSlot.pointee.store(word, ordering: .releasing)
            } else if shift == 9 {
                let slot = unsafe midSlot(index)
                if unsafe slot.pointee.load(ordering: .relaxed) == 0 { unsafe add(1, to: rootSlot) }
                unsafe slot.pointee.store(word, ordering: .releasing)
            } else {
                step = min(left, 512 - (index & 511))
                unsafe fillLeaf(midSlot(index), Int(index & 511), Int(step), word, advance << frameShift)
            }
            index &+= step
            word &+= advance &* step << frameShift
            left &-= step
        }
    }

    @inline(__always)
    private func fillLeaf(_ parent: Slots, _ first: Int, _ count: Int, _ word: UInt64, _ advance: UInt64) {
        let parentWord = unsafe parent.pointee.load(ordering: .relaxed)
        let table = unsafe Self.table(parentWord)
        var word = word
        if parentWord < Self.oneSlot {
            // An empty table: nothing to look at.
            for index in first..<first + count {
                unsafe table[index].store(word, ordering: .releasing)
                word &+= advance
            }
            let full = parentWord & ~Self.pinnedBit &+ UInt64(count) &* Self.oneSlot
            return unsafe parent.pointee.store(full, ordering: .releasing)
        }
        var fresh: UInt64 = 0
        for index in first..<first + count {
            let slot = unsafe table + index
            if unsafe slot.pointee.load(ordering: .relaxed) == 0 { fresh &+= 1 }
            unsafe slot.pointee.store(word, ordering: .releasing)
            word &+= advance
        }
        if fresh > 0 { unsafe add(fresh, to: parent) }
    }

    /// Splits the leaves that the range cuts at its ends, so that `clear` or `fill` can change exactly these pages.
    package func prepareCut(_ start: UInt64, _ count: UInt64) throws(RadixFull) {
        guard count > 0 else { return }
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
        let rootSlot = unsafe root + Int(index >> 18)
        if index & 0x3_FFFF != 0, unsafe isLeaf(rootSlot) { try ensureMid(index) }
        if index & 511 != 0, unsafe isTable(rootSlot), unsafe isLeaf(midSlot(index)) { try ensureLeaves(index) }
    }

    /// Empties these pages. After `prepareCut` with the same range.
    package func clear(_ start: UInt64, _ count: UInt64) {
        var (index, left) = (start, count)
        while left > 0 {
            let rootSlot = unsafe root + Int(index >> 18)
            guard unsafe isTable(rootSlot) else {
                if unsafe isLeaf(rootSlot) { unsafe rootSlot.pointee.store(0, ordering: .releasing) }
                let step = min(left, (1 << 18) - index & 0x3_FFFF)
                index &+= step
                left &-= step
                continue
            }
            let step = min(left, 512 - (index & 511))
            unsafe clearMid(rootSlot, midSlot(index), index, step)
            index &+= step
            left &-= step
        }
    }

    @inline(__always)
    private func clearMid(_ rootSlot: Slots, _ slot: Slots, _ index: UInt64, _ count: UInt64) {
        let word = unsafe slot.pointee.load(ordering: .relaxed)
        if word == 0 { return }
        if word & 7 != Self.tableTag {
            unsafe slot.pointee.store(0, ordering: .releasing)
            unsafe drop(1, from: rootSlot)
        } else {
            let table = unsafe Self.table(word)
            var gone: UInt64 = 0
            if word / Self.oneSlot == 512 {
                // A full one: the same.
                for place in Int(index & 511)..<Int(index & 511 + count) {
                    unsafe table[place].store(0, ordering: .releasing)
                }
                gone = count
            } else {
                for place in Int(index & 511)..<Int(index & 511 + count)
                where unsafe table[place].load(ordering: .relaxed) != 0 {
                    unsafe table[place].store(0, ordering: .releasing)
                    gone &+= 1
                }
            }
            if gone == 0 { return }
            let left = word &- gone &* Self.oneSlot
            unsafe slot.pointee.store(left, ordering: .releasing)
            if left < Self.oneSlot { unsafe listIdle(slot, index) }
        }
    }

    /// Replaces each word in the range, not the nothings. After `prepareCut` with the same range.
    package func rewrite(_ start: UInt64, _ count: UInt64, _ change: (UInt64) -> UInt64) {
        var index = start
        while index < start + count {
            var slot = unsafe root + Int(index >> 18)
            var step: UInt64 = (1 << 18) - index & 0x3_FFFF
            if unsafe isTable(slot) {
                unsafe slot = midSlot(index)
                step = 512 - index & 511
                if unsafe isTable(slot) {
                    unsafe slot = Self.table(slot.pointee.load(ordering: .relaxed)) + Int(index & 511)
                    step = 1
                }
            }
            let word = unsafe slot.pointee.load(ordering: .relaxed)
            if word != 0 { unsafe slot.pointee.store(change(word), ordering: .releasing) }
            index &+= step
        }
    }

    /// Takes tables out that are empty after a preparation that came to nothing.
    func dropEmpty(_ start: UInt64, _ count: UInt64) {
        var index = start & ~511
        while index < start + count {
            let rootSlot = unsafe root + Int(index >> 18)
            if unsafe isTable(rootSlot) {
                let slot = unsafe midSlot(index)
                if unsafe isTable(slot), unsafe slot.pointee.load(ordering: .relaxed) < Self.oneSlot {
                    unsafe retire(slot)
                    unsafe drop(1, from: rootSlot)
                } else if unsafe rootSlot.pointee.load(ordering: .relaxed) < Self.oneSlot {
                    unsafe retire(rootSlot)
                }
            }
            index &+= 512
        }
    }

    // MARK: Single pages

    /// What storing one page in place came to.
    package enum InPlace { case done, occupied, needsTable }

    /// Stores one page where there is nothing and the table is there already: prepare and fill in one step, for the hot path.
    @inline(__always)
    package func storeInPlace(_ index: UInt64, _ word: UInt64) -> InPlace {
        guard index < window else { return .needsTable }
        let rootWord = unsafe root[Int(truncatingIfNeeded: index >> 18)].load(ordering: .relaxed)
        guard rootWord & 7 == Self.tableTag else { return rootWord == 0 ? .needsTable : .occupied }
        let slot = unsafe Self.table(rootWord) + Int(truncatingIfNeeded: index >> 9 & 511)
        let midWord = unsafe slot.pointee.load(ordering: .relaxed)
        guard midWord & 7 == Self.tableTag else { return midWord == 0 ? .needsTable : .occupied }
        let leaf = unsafe flat + Int(truncatingIfNeeded: index)
        guard unsafe leaf.pointee.load(ordering: .relaxed) == 0 else { return .occupied }
        unsafe leaf.pointee.store(word, ordering: .releasing)
        unsafe slot.pointee.store(midWord &+ Self.oneSlot, ordering: .releasing)
        return .done
    }

    /// Empties one page that has a word of its own in the window; false if it has none, and nothing changes.
    @inline(__always)
    package func clearInPlace(_ index: UInt64) -> Bool {
        guard index < window else { return false }
        let leaf = unsafe flat + Int(truncatingIfNeeded: index)
        guard unsafe leaf.pointee.load(ordering: .relaxed) != 0 else { return false }
        // A word in the window is in a table, so both levels above it are tables.
        let slot = unsafe midSlot(index)
        let left = unsafe slot.pointee.load(ordering: .relaxed) &- Self.oneSlot
        unsafe leaf.pointee.store(0, ordering: .releasing)
        unsafe slot.pointee.store(left, ordering: .releasing)
        if left < Self.oneSlot, left & Self.idleBit == 0 { unsafe listIdle(slot, index) }
        return true
    }

    // MARK: Idle tables

    /// Remembers a table that has become empty.
    private func listIdle(_ slot: Slots, _ index: UInt64) {
        let word = unsafe slot.pointee.load(ordering: .relaxed)
        if word & Self.idleBit != 0 { return }
        unsafe slot.pointee.store(word | Self.idleBit, ordering: .releasing)
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
        let rootSlot = unsafe root + Int(index >> 18)
        guard unsafe isTable(rootSlot) else { return false }
        let slot = unsafe midSlot(index)
        let word = unsafe slot.pointee.load(ordering: .relaxed)
        guard word & 7 == Self.tableTag, word & Self.idleBit != 0 else { return false }
        unsafe slot.pointee.store(word & ~Self.idleBit, ordering: .releasing)
        guard word < Self.oneSlot, word & Self.pinnedBit == 0 else { return false }
        unsafe retire(slot)
        unsafe drop(1, from: rootSlot)
        return true
    }

    // MARK: Slots

    @inline(__always)
    private func midSlot(_ index: UInt64) -> Slots {
        unsafe Self.table(root[Int(index >> 18)].load(ordering: .relaxed)) + Int(index >> 9 & 511)
    }
    @inline(__always)
    private func isTable(_ slot: Slots) -> Bool { unsafe slot.pointee.load(ordering: .relaxed) & 7 == Self.tableTag }
    @inline(__always)
    private func isLeaf(_ slot: Slots) -> Bool {
        let word = unsafe slot.pointee.load(ordering: .relaxed)
        return word != 0 && word & 7 != Self.tableTag
    }

    /// Makes the top slot of `index` a table: an empty one, or one that says in 512 words what the leaf said in one.
    private func ensureMid(_ index: UInt64) throws(RadixFull) {
        let slot = unsafe root + Int(index >> 18)
        let word = unsafe slot.pointee.load(ordering: .relaxed)
        if word & 7 == Self.tableTag { return }
        guard let node = unsafe nodes.take() else { throw RadixFull() }
        unsafe place(node, in: slot, instead: word, childShift: 9)
    }

    /// The same for the level below, whose tables are in the window if the index is. `ensureMid` comes first.
    private func ensureLeaves(_ index: UInt64) throws(RadixFull) {
        let slot = unsafe midSlot(index)
        let word = unsafe slot.pointee.load(ordering: .relaxed)
        if word & 7 == Self.tableTag {
            if word < Self.oneSlot { unsafe slot.pointee.store(word | Self.pinnedBit, ordering: .releasing) }
            return
        }
        if index < window {
            guard nodes.takeInWindow() else { throw RadixFull() }
            unsafe place(flat + Int(index & ~511), in: slot, instead: word, childShift: 0)
        } else {
            guard let node = unsafe nodes.take() else { throw RadixFull() }
            unsafe place(node, in: slot, instead: word, childShift: 0)
        }
        if word == 0 { unsafe add(1, to: root + Int(index >> 18)) }
        if index < window { makeHuge(Int(index >> 18)) }
    }

    private func place(_ node: Slots, in slot: Slots, instead word: UInt64, childShift: UInt64) {
        let address = UInt64(UInt(bitPattern: node))
        if word == 0 { return unsafe slot.pointee.store(address | Self.tableTag, ordering: .releasing) }
        let advance = EntryWord.hasFrame(word) ? UInt64(1) << (childShift + frameShift) : 0
        for index in 0..<512 { unsafe node[index].store(word &+ UInt64(index) &* advance, ordering: .releasing) }
        unsafe slot.pointee.store(address | Self.tableTag | 512 &* Self.oneSlot, ordering: .releasing)
    }

    /// Makes a part of the window (one top slot's, 2 MiB) a huge page when more than half of it is in use: random look-ups then
    /// miss the processor's TLB no more. Once only; where the kernel cannot, nothing changes.
    private func makeHuge(_ rootIndex: Int) {
        guard unsafe root[rootIndex].load(ordering: .relaxed) / Self.oneSlot > 320, !nodes.collapsed.contains(rootIndex) else {
            return
        }
        nodes.collapsed.insert(rootIndex)
        let collapse: Int32 = 25  // MADV_COLLAPSE, Linux 6.1
        _ = unsafe madvise(flat + rootIndex << 18, 2 << 20, collapse)
    }

    @inline(__always)
    private func add(_ count: UInt64, to slot: Slots) {
        let word = unsafe slot.pointee.load(ordering: .relaxed)
        unsafe slot.pointee.store(word &+ count &* Self.oneSlot, ordering: .releasing)
    }

    /// Lowers a top slot's count; the table goes when it is empty.
    @inline(__always)
    private func drop(_ count: UInt64, from slot: Slots) {
        let word = unsafe slot.pointee.load(ordering: .relaxed) &- count &* Self.oneSlot
        unsafe slot.pointee.store(word, ordering: .releasing)
        if word < Self.oneSlot { unsafe retire(slot) }
    }

    /// Takes the slot's empty table out. Memory of the window goes back to the system, a node to the next one who needs it.
    private func retire(_ slot: Slots) {
        let word = unsafe slot.pointee.load(ordering: .relaxed)
        unsafe slot.pointee.store(0, ordering: .releasing)
        // Between leaving the parent and getting new words: see the file RadixTable.swift.
        structure.wrappingAdd(1, ordering: .releasing)
        let table = unsafe Self.table(word)
        if unsafe window > 0 && table >= flat && table < flat + Int(window) {
            nodes.giveBackInWindow()
            _ = unsafe madvise(table, 4096, MADV_DONTNEED)
        } else {
            unsafe nodes.giveBack(table)
        }
    }
}
