// A sparse array of 64-bit words by frame number, three levels of 512 (the top one as wide as needed). Any number of
// readers go through it without a lock while one writer changes it. Frame maps, their reverse and IO page tables are
// all made of it.
//
// A word's low three bits are its kind: 0 nothing, 7 a table one level down, else a leaf whose frame starts at bit 12.
// A leaf above the lowest level stands for 512 or 262144 pages whose frames go up by one. A table's word also counts
// the slots in use below (bits 48 on: user addresses end below 2^47), so that an empty table is noticed without looking
// through it.
//
// The tables of the lowest level stand in one reserved range of addresses, the window: the word of index i is always at
// `flat[i]`. A look-up of a single page is therefore one load, as in a flat array; the upper levels are asked only
// where that word is 0: in a hole, or in a large page. Memory behind the window is there only where tables are, and is
// given back when they are empty; a window dense in tables is made of huge pages. Indices beyond the window have tables
// from `nodes`, as the upper levels have.
//
// How readers stay right: tables are memory of one type until the whole structure goes, so a late reader reads a word,
// never a freed page. A table that is taken out for reuse first leaves its parent, then the structure's number goes up,
// then the table gets new words; each store releases, each load acquires. A reader that met a reused word therefore
// finds the number changed, and starts again. Single entries change by one store, with no number: a reader sees the old
// or the new one. A word of the window never means another index; outside a table it is 0, which sends the reader to
// the upper levels.
//
// A table whose last word goes stays for a while, listed as idle: a page mapped and unmapped again and again makes no
// tables.

import CLinux
import Glibc
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

/// A table's window, to be kept by a caller that cannot afford to go through the table's owner. Good as long as the
/// table is.
///
/// SAFETY: `flat` has `count` words, with which every index is compared. Whoever keeps a window keeps its table's
/// owner, too: a `BusView` is a part of what holds the `BusFrames`, an `IommuDomain` of what holds its tables. Words
/// are atomics, which any thread may load.
@safe
@usableFromInline
package struct RadixWindow: @unchecked Sendable {
    @usableFromInline let flat: UnsafeMutablePointer<Atomic<UInt64>>
    @usableFromInline let count: UInt64
    @usableFromInline init(flat: UnsafeMutablePointer<Atomic<UInt64>>, count: UInt64) {
        unsafe self.flat = flat
        self.count = count
    }
    /// The word of a single page at `index`; 0: ask the table, it may be in a large page or beyond the window.
    @inlinable @inline(__always)
    package func word(_ index: UInt64) -> UInt64 {
        index < count ? unsafe flat[Int(truncatingIfNeeded: index)].load(ordering: .acquiring) : 0
    }
}

/// See the file's beginning.
///
/// SAFETY: `root` has a slot for each index below `limit`, and `flat` a word for each below `window`; an index is
/// compared with one of these before it is used. The tables that slots name have 512 words each and stay until
/// `deinit`, which runs when nobody borrows the structure any more. All words are atomics: readers load, and the one
/// writer, whom the owner sees to (a lock, or a thread), stores.
@safe
@usableFromInline
package struct RadixTable: ~Copyable, @unchecked Sendable {
    @usableFromInline package typealias Slots = UnsafeMutablePointer<Atomic<UInt64>>

    @usableFromInline let root: Slots
    /// The window's words; indices below `window` have theirs here.
    @usableFromInline let flat: Slots
    @usableFromInline package let window: UInt64
    /// One past the largest index.
    @usableFromInline package let limit: UInt64
    @usableFromInline let structure: Atomic<UInt64>
    /// Memory for tables; the writer's.
    let nodes: RadixNodes

    @usableFromInline static let tableTag: UInt64 = 7
    @usableFromInline static let addressMask: UInt64 = 0x0000_FFFF_FFFF_F000
    static let oneSlot: UInt64 = 1 << 48
    /// In a table's word: it is in the list of idle tables.
    static let idleBit: UInt64 = 1 << 3
    /// In an empty table's word: a change has been prepared that counts on it.
    static let pinnedBit: UInt64 = 1 << 4
    /// The widest structure: 2^45 frames, addresses of 57 bits.
    package static let widest: UInt64 = 1 << 45

    /// The widest window: 2^30 frames, 8 GiB of addresses.
    package static let widestWindow: UInt64 = 1 << 30

    /// Room for indices below `limit` (at most `widest`), with up to `tableLimit` tables. Indices below `windowLimit`
    /// have a window, unless there are no addresses for it. Throws `noMemory`.
    package init(limit: UInt64, tableLimit: Int, windowLimit: UInt64 = RadixTable.widestWindow) throws(FrameMapError) {
        self.limit = min(limit, Self.widest)
        // SAFETY: `root` is freed by `deinit` alone: nothing after it fails. Without a window `flat` is never used.
        unsafe root = try zeroedSlots(self.limit)
        structure = Atomic(0)
        nodes = RadixNodes(limit: tableLimit)
        // Whole tables, so that no table is partly in it.
        let wanted = (min(self.limit, min(windowLimit, Self.widestWindow)) + 511) & ~511
        if let memory = unsafe reservedSlots(wanted) {
            unsafe flat = memory
            window = wanted
        } else {
            unsafe flat = root
            window = 0
        }
    }

    deinit {
        // SAFETY: made by `init` and given to nobody but borrowers and keepers of a window, see there.
        unsafe free(root)
        if window > 0 { _ = unsafe munmap(flat, windowByteCount(window)) }
    }

    /// The window, for a caller's own use.
    @inlinable
    package var view: RadixWindow { unsafe RadixWindow(flat: flat, count: window) }

    /// Tables in use.
    package var tableCount: Int {
        dropIdle()
        return nodes.inUse
    }

    // SAFETY: asked for a word with the table's tag. Only `place` makes such words, of a table that lives as long as
    // the structure.
    @inlinable @inline(__always)
    static func table(_ word: UInt64) -> Slots {
        unsafe UnsafeMutablePointer(bitPattern: UInt(truncatingIfNeeded: word & addressMask)).unsafelyUnwrapped
    }

    /// The word of a single page at `index`; 0: ask `load`, it may be in a large page or beyond the window.
    @inlinable @inline(__always)
    package func word(_ index: UInt64) -> UInt64 {
        index < window ? unsafe flat[Int(truncatingIfNeeded: index)].load(ordering: .acquiring) : 0
    }

    /// Asks for the memory of `word(index)`; waits for nothing, and no index is wrong.
    @inlinable @inline(__always)
    package func prefetch(_ index: UInt64) {
        if index < window { unsafe causeway_prefetch(flat + Int(truncatingIfNeeded: index)) }
    }

    /// The word at `index`. Any thread; no lock.
    @inlinable @inline(__always)
    package func load(_ index: UInt64) -> RadixLeaf {
        if index < window {
            let word = unsafe flat[Int(truncatingIfNeeded: index)].load(ordering: .acquiring)
            if word != 0 { return RadixLeaf(word: word, pages: 1) }
        }
        return walk(index)
    }

    @usableFromInline
    func walk(_ index: UInt64) -> RadixLeaf {
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
                // What has no frame is the same for every page.
                return RadixLeaf(word: EntryWord.hasFrame(word) ? word &+ within << frameShift : word, pages: pages)
            }
        }
    }
}

/// The top level's slots. Not touched until used: a wide, empty table costs no memory.
private func zeroedSlots(_ limit: UInt64) throws(FrameMapError) -> RadixTable.Slots {
    let count = Int(max(1, (limit + (1 << 18) - 1) >> 18))
    // SAFETY: `count` words or nothing; an atomic of a 64-bit word has that word's layout, and 0 is one.
    guard let raw = unsafe calloc(count, 8) else { throw .noMemory(frames: limit, byteCount: count * 8) }
    return unsafe raw.assumingMemoryBound(to: Atomic<UInt64>.self)
}

/// Bytes of a window: whole huge pages.
func windowByteCount(_ slots: UInt64) -> Int { (Int(slots) * 8 + hugePage - 1) & ~(hugePage - 1) }

private let hugePage = 2 << 20

/// Addresses for a window, aligned to huge pages, with no memory behind them yet; nil if there are none. The kernel's
/// pages of zeros serve reads of what was never written.
private func reservedSlots(_ slots: UInt64) -> RadixTable.Slots? {
    if slots == 0 { return nil }
    let count = windowByteCount(slots)
    // SAFETY: addresses of our own, of which what is before the first huge page and behind the last is given back
    // before anybody knows of it. What is left are `slots` words at least, all 0, and an atomic of a 64-bit word has
    // that word's layout.
    guard
        let memory = unsafe mmap(
            nil, count + hugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
        unsafe memory != MAP_FAILED
    else { return nil }
    let lead = (hugePage - Int(UInt(bitPattern: memory) & UInt(hugePage - 1))) & (hugePage - 1)
    if lead > 0 { _ = unsafe munmap(memory, lead) }
    if lead < hugePage { _ = unsafe munmap(memory + lead + count, hugePage - lead) }
    // A system that makes huge pages of whatever is touched would spend 2 MiB on every word of a sparse table.
    _ = unsafe madvise(memory + lead, count, MADV_NOHUGEPAGE)
    return unsafe (memory + lead).assumingMemoryBound(to: Atomic<UInt64>.self)
}
