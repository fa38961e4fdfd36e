// How many live mappings have each page of a device's frame map: what tells that two transfers have the same page at
// once, one of which the device writes, and that a page is taken away while a device still has it.

import FrameMaps
import Glibc

/// The counts of one device's pages.
///
/// SAFETY: `counts` has a count for each pfn below `limit`, made by `init` and freed by `deinit`; every pfn is compared
/// with `limit` first. One thread uses it, that of the device.
@safe
struct PageUses: ~Copyable {
    /// For each pfn: readers in the low half, writers in the high one. Memory is there only where pages are.
    private let counts: UnsafeMutablePointer<UInt32>
    private let limit: UInt64

    /// Throws `noTables`.
    init(limit: UInt64, name: String) throws(DMAError) {
        self.limit = limit
        // SAFETY: room for `limit` counts, all 0, or nothing.
        guard let memory = unsafe calloc(Int(limit), 4) else {
            throw .noTables(name: name, of: "counts of \(limit) pages", byteCount: Int(limit) * 4)
        }
        unsafe counts = memory.bindMemory(to: UInt32.self, capacity: Int(limit))
    }

    deinit { unsafe free(counts) }

    /// The counts, to be kept by whoever lives no longer than this.
    var counter: Counter { unsafe Counter(counts: counts, limit: limit) }

    /// Whether one of the pages is mapped for the device.
    func isUsed(_ start: UInt64, _ count: UInt64) -> Bool {
        for pfn in start..<min(start + count, limit) where unsafe counts[Int(pfn)] != 0 { return true }
        return false
    }
}

extension PageUses {
    /// SAFETY: as for the counts themselves; whoever keeps one keeps them (`DMADevice` has its `BusFrames`).
    @safe
    struct Counter {
        fileprivate let counts: UnsafeMutablePointer<UInt32>
        fileprivate let limit: UInt64

        /// Counts a mapping of pages that are in the map; true if it is in another's way.
        @inline(__always)
        func begin(_ start: UInt64, _ count: UInt32, writes: Bool) -> Bool {
            var overlaps = false
            for pfn in start..<start + UInt64(count) where pfn < limit {
                let before = unsafe counts[Int(pfn)]
                if before != 0 && (writes || before >> 16 != 0) { overlaps = true }
                unsafe counts[Int(pfn)] = before &+ (writes ? 1 << 16 : 1)
            }
            return overlaps
        }

        @inline(__always)
        func end(_ start: UInt64, _ count: UInt32, writes: Bool) {
            for pfn in start..<start + UInt64(count) where pfn < limit { unsafe counts[Int(pfn)] &-= writes ? 1 << 16 : 1 }
        }
    }
}
