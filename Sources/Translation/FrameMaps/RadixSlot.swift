// The words of tables as the writer handles them: what is unsafe about changing a table is here.

import Synchronization

/// One word of a table. Readers look at it at any time; the one writer stores, and so needs no order to load what it
/// stored.
///
/// SAFETY: a place in a table, where an atomic has been since the table was made. The memory stays until the whole
/// structure goes, and the writer, who alone makes these, has the structure while it does.
@safe
struct RadixSlot {
    private let place: RadixTable.Slots

    /// - Parameter place: in a table of the structure under change.
    @unsafe @inline(__always)
    init(at place: RadixTable.Slots) { unsafe self.place = place }

    var word: UInt64 {
        @inline(__always) get { unsafe place.pointee.load(ordering: .relaxed) }
        @inline(__always) nonmutating set { unsafe place.pointee.store(newValue, ordering: .releasing) }
    }

    @inline(__always)
    var isTable: Bool { word & 7 == RadixTable.tableTag }
    @inline(__always)
    var isLeaf: Bool {
        let word = word
        return word != 0 && word & 7 != RadixTable.tableTag
    }
    /// Whether it names a table without words.
    @inline(__always)
    var isEmptyTable: Bool {
        let word = word
        return word & 7 == RadixTable.tableTag && word < RadixTable.oneSlot
    }

    /// The table that the word names, which must be a table's.
    @inline(__always)
    var table: RadixWords { RadixWords(of: word) }

    /// Counts `count` more words in the table.
    @inline(__always)
    func add(_ count: UInt64) { word = word &+ count &* RadixTable.oneSlot }
}

/// The 512 words of a table.
///
/// SAFETY: 512 words in a row of the structure under change, which stay until the whole of it goes; the writer alone
/// makes these.
@safe
struct RadixWords {
    let first: RadixTable.Slots

    /// - Parameter first: 512 words of the structure under change.
    @unsafe @inline(__always)
    init(at first: RadixTable.Slots) { unsafe self.first = first }

    /// - Parameter word: a table's.
    @inline(__always)
    init(of word: UInt64) {
        // SAFETY: a word with a table's tag is made of a table's address and never of an entry, whose kinds end at 5.
        unsafe first = RadixTable.table(word)
    }

    /// The word at `index`, below 512.
    @inline(__always)
    subscript(_ index: Int) -> RadixSlot {
        assert(index >= 0 && index < 512, "a table has 512 words")
        // SAFETY: one of the table's 512; who counts through a table, counts to there.
        return unsafe RadixSlot(at: first + index)
    }
}
