// Memory for tables of 512 words: taken in chunks, reused, given back only when the structure goes, because a reader
// may still be looking.

import Glibc
import Synchronization

/// Owned by one writer at a time.
///
/// SAFETY: `chunks` are allocations of whole tables, cleared, which are freed by `deinit` and not before, when the
/// structure and with it its readers are gone. `unused` is the rest of the last one, `unusedCount` tables; `clean` are
/// tables of theirs that nobody refers to.
@safe
final class RadixNodes {
    typealias Slots = RadixTable.Slots
    /// The most tables in use at once.
    let limit: Int
    /// Tables in use.
    private(set) var inUse = 0
    private var chunks: [UnsafeMutableRawPointer] = unsafe []
    private var unused: Slots?
    private var unusedCount = 0
    private var nextChunk = 16
    private var clean: [RadixWords] = []
    /// Tables that were empty when they were listed, by their first index, the oldest first: a ring of `idleLimit`.
    private var idle: [UInt64] = []
    private var oldestIdle = 0
    /// Top slots whose part of the window has been made of huge pages.
    var collapsed: Set<Int> = []
    /// Idle tables kept.
    static let idleLimit = 256

    init(limit: Int) { self.limit = limit }

    deinit {
        while let chunk = unsafe chunks.popLast() { unsafe free(chunk) }
    }

    /// A table of zeros, or nil if that would be one too many or there is no memory.
    func take() -> RadixWords? {
        guard inUse < limit else { return nil }
        if let node = clean.popLast() {
            inUse += 1
            return node
        }
        if unusedCount == 0, !grow() { return nil }
        guard let node = unsafe unused else { return nil }
        unsafe unused = node + 512
        unusedCount -= 1
        inUse += 1
        return unsafe RadixWords(at: node)
    }

    /// Counts a table in the window; false if that would be one too many.
    func takeInWindow() -> Bool {
        guard inUse < limit else { return false }
        inUse += 1
        return true
    }

    /// The reverse; its words are 0.
    func giveBackInWindow() { inUse -= 1 }

    /// Takes a table of zeros back that no table refers to any more and after the structure's number went up.
    func giveBack(_ node: RadixWords) {
        inUse -= 1
        clean.append(node)
    }

    /// Lists an idle table; returns the one that has to go for it, if the list was full.
    func listIdle(_ index: UInt64) -> UInt64? {
        if idle.count < Self.idleLimit {
            idle.append(index)
            return nil
        }
        let gone = idle[oldestIdle]
        idle[oldestIdle] = index
        oldestIdle = (oldestIdle + 1) % Self.idleLimit
        return gone
    }

    /// Hands the whole list out.
    func takeIdle() -> [UInt64] {
        defer {
            idle.removeAll(keepingCapacity: true)
            oldestIdle = 0
        }
        return idle
    }

    /// Chunks double up to 2 MiB, the size of a huge page: a large map's tables then cost few TLB entries.
    private func grow() -> Bool {
        let byteCount = nextChunk * 4096
        var memory: UnsafeMutableRawPointer?
        let alignment = byteCount >= 2 << 20 ? 2 << 20 : 4096
        // SAFETY: `byteCount` bytes or none; cleared before anybody sees them, and an atomic of 64 bits has a word's
        // layout.
        guard unsafe posix_memalign(&memory, alignment, byteCount) == 0, let memory = unsafe memory else {
            return false
        }
        if alignment > 4096 { _ = unsafe madvise(memory, byteCount, MADV_HUGEPAGE) }
        unsafe memset(memory, 0, byteCount)
        unsafe chunks.append(memory)
        unsafe unused = memory.assumingMemoryBound(to: Atomic<UInt64>.self)
        unusedCount = nextChunk
        nextChunk = min(nextChunk * 2, 512)
        return true
    }
}
