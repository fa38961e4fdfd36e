// Walking a range leaf by leaf.

/// Pages of one kind, in one leaf.
struct RadixRun {
    let index: UInt64
    /// The first page's word, or 0.
    let word: UInt64
    let count: UInt64
}

extension RadixTable {
    /// The first page of the range that has a word, or nil. The writer's: it goes by the tables' counts.
    package func firstPresent(_ start: UInt64, _ count: UInt64) -> UInt64? {
        var index = start
        let end = min(start + count, limit)
        while index < end {
            var word = rootSlot(index).word
            var step: UInt64 = (1 << 18) - index & 0x3_FFFF
            if word & 7 == Self.tableTag {
                word = RadixWords(of: word)[Int(index >> 9 & 511)].word
                step = 512 - index & 511
                if word & 7 == Self.tableTag {
                    if word >= Self.oneSlot, let found = firstInTable(word, index, min(step, end - index)) { return found }
                    word = 0
                }
            }
            if word != 0 { return index }
            index &+= step
        }
        return nil
    }

    /// The first page of the range that has no word, or nil. Leaf by leaf.
    package func firstAbsent(_ start: UInt64, _ count: UInt64) -> UInt64? {
        var index = start
        let end = min(start + count, limit)
        while index < end {
            let found = load(index)
            if found.word == 0 { return index }
            index &+= max(found.pages, 1)
        }
        return nil
    }

    private func firstInTable(_ word: UInt64, _ index: UInt64, _ count: UInt64) -> UInt64? {
        let table = RadixWords(of: word)
        for place in Int(index & 511)..<Int(index & 511 + count) where table[place].word != 0 {
            return index & ~511 + UInt64(place)
        }
        return nil
    }

    /// Calls `body` for each maximal run of like pages in the range, in order, as long as it returns true.
    func forEachRun(_ start: UInt64, _ count: UInt64, _ body: (RadixRun) -> Bool) {
        var index = start
        let end = min(start + count, limit)
        while index < end {
            let first = load(index)
            let pages = run(index, first, atMost: end - index)
            if !body(RadixRun(index: index, word: first.word, count: pages)) { return }
            index &+= pages
        }
    }

    /// Pages from `index` on, at most `most` (at least 1), that continue `first`: the same kind, and frames that go up
    /// by one.
    @usableFromInline
    package func run(_ index: UInt64, _ first: RadixLeaf, atMost most: UInt64) -> UInt64 {
        var pages = min(first.pages, most)
        while pages < most {
            let next = load(index &+ pages)
            let expected = EntryWord.hasFrame(first.word) ? first.word &+ pages << frameShift : first.word
            if next.word != expected || next.pages == 0 { break }
            pages &+= min(next.pages, most &- pages)
        }
        return max(pages, 1)
    }
}
