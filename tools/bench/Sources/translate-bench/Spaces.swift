// IO addresses and IO page tables.

import DMA
import FrameMaps

enum Spaces {
    /// A million pages taken, then steady use, and the request that must fail.
    static func addresses() throws -> [Row] {
        let domain = try IommuDomain(device: "bench", mode: .strict)
        var random = Xorshift()
        var taken: [Iova] = []
        for _ in 0..<1 << 20 { taken.append(try domain.reserve(pages: 1)) }
        taken.shuffle(using: &random)
        for iova in taken.suffix(1 << 18) { try domain.free(iova, pages: 1) }
        let loops = 1 << 14
        let steady = Measure.medians(
            loops,
            [
                { _ in for _ in 0..<loops { if let iova = try? domain.reserve(pages: 1) { try? domain.free(iova, pages: 1) } } },
                { _ in
                    var held: [Iova] = []
                    held.reserveCapacity(32)
                    for _ in 0..<loops / 32 {
                        for _ in 0..<32 { if let iova = try? domain.reserve(pages: 1) { held.append(iova) } }
                        for iova in held { try? domain.free(iova, pages: 1) }
                        held.removeAll(keepingCapacity: true)
                    }
                },
                { _ in for _ in 0..<loops { if let iova = try? domain.reserve(pages: 8) { try? domain.free(iova, pages: 8) } } },
            ])
        var full: [Iova] = []
        while let iova = try? domain.reserve(pages: 1) { full.append(iova) }
        // One page in 32 free, scattered: nothing of two pages anywhere.
        for iova in full where iova.page & 31 == 5 { try? domain.free(iova, pages: 1) }
        let failing = Measure.medians(
            loops, [{ _ in for _ in 0..<loops { if (try? domain.reserve(pages: 2)) != nil { Measure.keep(1) } } }])
        // The worst of all: each request takes what was freed last into account first.
        let held = full.filter { $0.page & 31 == 6 }
        let worst = Measure.medians(
            loops / 16,
            [
                { round in
                    for group in 0..<loops / 16 {
                        for i in 0..<16 { try? domain.free(held[(round * loops + group * 16 + i) % held.count], pages: 1) }
                        if (try? domain.reserve(pages: 32)) != nil { Measure.keep(1) }
                        for _ in 0..<16 { if let iova = try? domain.reserve(pages: 1) { Measure.keep(iova.rawValue) } }
                    }
                }
            ])
        return [
            Row(name: "IO address, take and give back, 1M taken", ours: steady[0], target: 8),
            Row(name: "  32 at a time, each", ours: steady[1], target: 8),
            Row(name: "  eight pages", ours: steady[2]),
            Row(name: "  the request that must fail", ours: failing[0], target: 200),
            Row(name: "  32 frees and takes, and a failing request between", ours: worst[0]),
        ]
    }

    static func tables() throws -> [Row] {
        let domain = try IommuDomain(device: "bench", mode: .strict)
        var random = Xorshift()
        let loops = 1 << 14
        var pages = (0..<UInt64(1 << 16)).map { Iova(rawValue: (1 << 18 + $0) << 12) }
        for iova in pages { try domain.link(iova, to: BusFrame(rawValue: iova.page), pages: 1, .readWrite) }
        pages.shuffle(using: &random)
        pages.removeSubrange(loops...)
        let single = Measure.medians(
            loops, warm: false,
            [
                { _ in for iova in pages { try? domain.unlink(iova, pages: 1) } },
                { _ in
                    for iova in pages { try? domain.link(iova, to: BusFrame(rawValue: iova.page &+ 1), pages: 1, .readWrite) }
                },
            ])
        let base = Iova(rawValue: 1 << 32)
        let bulk = Measure.medians(
            loops, warm: false,
            [
                { _ in try? domain.link(base, to: BusFrame(rawValue: 7), pages: loops, .readWrite) },
                { _ in try? domain.unlink(base, pages: loops) },
            ])
        return [
            Row(name: "IO page table, map a page", ours: single[1], target: 17),
            Row(name: "IO page table, unmap a page", ours: single[0], target: 17),
            Row(name: "  in bulk (4 KiB pages), map, a page", ours: bulk[0], target: 1.5),
            Row(name: "  in bulk (4 KiB pages), unmap, a page", ours: bulk[1], target: 1.5),
        ]
    }
}
