// Which pages of a queue's buffer are in use. First fit from where the last search ended; a buffer has a few thousand
// pages at most.

import SharedMemory

/// Runs of pages in one buffer.
package struct PageAllocator {
    private var used: [Bool]
    private var start = 0
    package private(set) var freeCount: Int

    package init(pages: Int) {
        used = Array(repeating: false, count: pages)
        freeCount = pages
    }

    package var pageCount: Int { used.count }

    /// The first page of `count` free pages side by side, now in use; nil if there is no such run.
    package mutating func allocate(_ count: Int) -> Int? {
        guard count > 0, count <= freeCount else { return nil }
        return take(count, from: start, to: used.count) ?? take(count, from: 0, to: min(start + count, used.count))
    }

    private mutating func take(_ count: Int, from first: Int, to end: Int) -> Int? {
        var run = 0
        var page = first
        while page < end {
            run = used[page] ? 0 : run + 1
            page += 1
            if run == count {
                for index in page - count..<page { used[index] = true }
                freeCount -= count
                start = page == used.count ? 0 : page
                return page - count
            }
        }
        return nil
    }

    /// Gives pages back.
    package mutating func free(_ first: Int, _ count: Int) {
        for page in first..<first + count {
            precondition(used[page], "a page freed twice")
            used[page] = false
        }
        freeCount += count
    }
}
