// Walking a range leaf by leaf.

/// Pages of one kind, in one leaf.
struct RadixRun {
    let index: UInt64
    /// The first page's word, or 0.
    let word: UInt64
    let count: UInt64
}

extension RadixTable {
    /// The first page of the range that has a word, or nil.
    func firstPresent(_ start: UInt64, _ count: UInt64) -> UInt64? {
        var index = start
        let end = start + count
        while index < end {
            let leaf = load(index)
            if leaf.word != 0 { return index }
            index &+= max(leaf.pages, 1)
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

    /// Pages from `index` on, at most `most` (at least 1), that continue `first`: the same kind, and frames that go up by one.
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
