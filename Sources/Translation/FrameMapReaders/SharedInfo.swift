// The part of the page that Xen shares with a PV domain which says where the domain keeps its p2m.
// xen/include/public/arch-x86/xen.h (struct arch_shared_info); the places are those of the page's two layouts.

/// Where a PV domain keeps its p2m, as it said when the page was read.
public struct SharedInfo: Hashable, Sendable {
    /// Bytes in a word of the guest: 4 or 8.
    public var width: Int
    /// Entries of the p2m.
    public var entryCount: UInt64
    /// The frame of the tree's top; 0 before the domain has set it up, all ones if it keeps no tree.
    public var frameListList: UInt64
    /// The page tables that map the linear list, as the domain's cr3 has it; 0 if there is no such list.
    public var pageTables: UInt64
    /// Where the linear list begins.
    public var listAddress: UInt64
    /// Goes up before and after each change of the list's mapping: odd while one is under way.
    public var generation: UInt64

    /// From the page's bytes; those that are missing of 4096 are 0, and a width other than 4 is 8.
    public init(_ page: [UInt8], width: Int) {
        let width = width == 4 ? 4 : 8
        let page = page.count < 4096 ? page + [UInt8](repeating: 0, count: 4096 - page.count) : page
        self.width = width
        let narrow = width == 4
        entryCount = page.word(narrow ? 2316 : 3088, width: width)
        let top = page.word(narrow ? 2320 : 3096, width: width)
        frameListList = narrow && top == 0xFFFF_FFFF ? .max : top
        pageTables = page.word(narrow ? 2328 : 3112, width: width)
        listAddress = page.word(narrow ? 2332 : 3120, width: width)
        generation = page.word(narrow ? 2336 : 3128, width: width)
    }

    /// The frame of the page tables' top: 32-bit guests fold its upper bits into the lower ones.
    public var pageTableFrame: UInt64 {
        width == 8 ? pageTables >> 12 : (pageTables >> 12 | pageTables << 20) & 0xFFFF_FFFF
    }
    /// Entries in a page of the p2m.
    public var entriesPerPage: UInt64 { UInt64(4096 / width) }
}
