// What an IOMMU remembers of its page tables: translations by IO page. A small direct-mapped cache, so that what it
// costs to leave an entry in it too long, or to throw one out, can be seen.

import FrameMaps

struct IOTLB {
    /// Entries; a power of two.
    static let size = 256
    private var tags: InlineArray<256, UInt64> = InlineArray(repeating: .max)
    private var words: InlineArray<256, UInt64> = InlineArray(repeating: 0)

    @inline(__always)
    func find(_ page: UInt64) -> UInt64? {
        let slot = Int(truncatingIfNeeded: page & 255)
        return tags[slot] == page ? words[slot] : nil
    }
    @inline(__always)
    mutating func insert(_ page: UInt64, _ word: UInt64) {
        let slot = Int(truncatingIfNeeded: page & 255)
        tags[slot] = page
        words[slot] = word
    }
    /// Forgets these pages.
    @inline(__always)
    mutating func invalidate(_ page: UInt64, count: Int) {
        if count >= Self.size { return invalidateAll() }
        for page in page..<page + UInt64(count) where tags[Int(page & 255)] == page { tags[Int(page & 255)] = .max }
    }
    mutating func invalidateAll() { tags = InlineArray(repeating: .max) }
}
