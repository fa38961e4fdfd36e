// Links at addresses of somebody's choice, and reservations beside them: `reserve` never hands out what is linked.

import FrameMaps
import TestSupport
import Testing

@testable import DMA

@Suite(.timeLimit(.minutes(1)))
struct FixedAddressTests {
    @Test(arguments: [IommuMode.strict, .deferred])
    func reserveLeavesFixedAddressesAlone(_ mode: IommuMode) throws {
        // 512 pages, of which the upper 256 can be reserved.
        let domain = try IommuDomain(device: "d", mode: mode, mask: (512 << 12) - 1)
        let fixed: [UInt64] = [256, 258, 300, 511]
        for page in fixed { try domain.link(Iova(rawValue: page << 12), to: bus(page), pages: 1, .readWrite) }
        var taken: [Iova] = []
        while let iova = try? domain.reserve(pages: 1) {
            try domain.link(iova, to: bus(7), pages: 1, .read)
            taken.append(iova)
        }
        #expect(Set(taken.map(\.page)).count == 252 && domain.freePages == 0)
        #expect(taken.allSatisfy { !fixed.contains($0.page) })
        for page in fixed { #expect(domain.lookup(Iova(rawValue: page << 12))?.frame == bus(page)) }
        // What is linked no more can be had again.
        try domain.unlink(Iova(rawValue: 300 << 12), pages: 1)
        #expect(try domain.reserve(pages: 1).page == 300)
        for iova in taken { try domain.release(iova, pages: 1) }
        domain.flush()
        for page in fixed where page != 300 { try domain.unlink(Iova(rawValue: page << 12), pages: 1) }
        try domain.free(Iova(rawValue: 300 << 12), pages: 1)
        #expect(try domain.reserve(pages: 256).page == 256)
    }

    /// A large run in the middle of the space, in large pages: what is around it is had, in runs of any size.
    @Test func aLargeRun() throws {
        let domain = try IommuDomain(device: "d", mode: .strict, mask: (1 << 36) - 1)
        let pages = 1 << 18
        let start = Iova(rawValue: 1 << 32)
        try domain.link(start, to: bus(1 << 18), pages: pages, .readWrite)
        let run = start.page..<start.page + UInt64(pages)
        var got = 0
        while let iova = try? domain.reserve(pages: 1 << 17) {
            #expect(!run.overlaps(iova.page..<iova.page + 1 << 17))
            got += 1
        }
        // 2^24 pages are 128 such runs: two are the fixed one, one has the space's first pages in it.
        #expect(got == 125 && domain.lookup(start)?.frame == bus(1 << 18))
        try domain.unlink(start, pages: pages)
        #expect(try domain.reserve(pages: pages).page == start.page)
    }

    /// As many pages as C may map at once, three times: 64 GiB each.
    @Test func largestMappings() throws {
        let domain = try IommuDomain(device: "d", mode: .deferred)
        for round in 0..<3 as Range<UInt64> {
            let iova = try domain.map(bus(round << 24), pages: 1 << 24, .readWrite)
            #expect(iova.page & (1 << 24 - 1) == 0 && domain.translate(iova, writes: true) == bus(round << 24))
            #expect(domain.translate(iova.advanced(by: 1 << 36 - 1)!, writes: false) == bus((round + 1) << 24 - 1))
        }
        // In pages of 1 GiB: no tables.
        #expect(domain.tableByteCount == 0)
    }
}
