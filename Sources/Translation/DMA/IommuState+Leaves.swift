// How an IO address space is mapped: leaves by size. The cold path: all of the tables are looked through.

import FrameMaps

/// Leaves of the IO page tables.
public struct IommuLeaves: Hashable, Sendable {
    /// Of 4 KiB.
    public var small = 0
    /// Of 2 MiB.
    public var large = 0
    /// Of 1 GiB.
    public var huge = 0
    /// Pages that they map.
    public var pages: UInt64 { UInt64(small) + UInt64(large) << 9 + UInt64(huge) << 18 }
}

extension IommuState {
    /// All of them, counted.
    func leaves() -> IommuLeaves {
        var result = IommuLeaves()
        var index: UInt64 = 0
        while index < tables.limit, let page = tables.firstPresent(index, tables.limit - index) {
            let leaf = tables.load(page)
            switch leaf.pages {
            case 1: result.small += 1
            case 1 << 9: result.large += 1
            default: result.huge += 1
            }
            index = page + leaf.pages
        }
        return result
    }

    /// Whether the IOTLB or the tables know an IO page.
    func knows(_ iova: Iova) -> Bool {
        if remembers(iova.page) { return true }
        return iova.page < tables.limit && EntryWord.hasFrame(tables.load(iova.page).word)
    }
}
