// Another domain's pages where 2 MiB or more were ballooned out at once, and by the gigabyte.

import FrameMaps
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2)))
struct ForeignRunTests {
    /// Foreign pages within 2 MiB that were ballooned out as a whole, one by one and several at once, and what they
    /// leave behind.
    @Test(arguments: MemoryModel.allCases)
    func foreignPagesInALargeHole(_ model: MemoryModel) throws {
        let own: UInt64 = model == .p2m ? 0 : 1 << 20
        let map = try FrameMap(owner: 0, model: model, pfnLimit: 1 << 20, frameLimit: 1 << 22, ownFrames: own)
        try map.balloonOut(pfns(0, 1 << 18))
        for (start, count) in [(100, 2), (512, 512), (1000, 1), (1023, 2), (3, 600)] as [(UInt64, UInt64)] {
            do {
                let token = try map.mapForeign(pfns(start, count), to: (0..<count).map { bus(1 << 21 + $0 * 2) }, of: 2, .read)
                #expect(map.frame(of: pfn(start + count - 1)) == bus(1 << 21 + (count - 1) * 2))
                token.unmap()
            } catch { Issue.record("\(start): \(error)") }
        }
        var runs: [FrameRange<Pfn>] = []
        map.forEachRun(in: pfns(100, 5000)) { range, _ in
            runs.append(range)
            return true
        }
        #expect(runs == [pfns(100, 5000)])
    }

    /// Runs of foreign frames, large enough for large leaves, that meet and that share frames.
    @Test func foreignRuns() throws {
        let map = try FrameMap(owner: 0, model: .p2m, pfnLimit: 1 << 24, frameLimit: 1 << 24)
        let half: UInt64 = 1 << 19, base: UInt64 = 1 << 22
        let frames = [(base, half), (base + 2 * half, 512), (base + 4 * half + 5, half)].map {
            FrameRange(bus($0.0), count: $0.1)!
        }
        func run(_ count: UInt64) throws(FrameMapError) -> ForeignFrames {
            try map.mapForeign(pfns(512, count), toRuns: frames, of: 2, .readWrite)
        }
        for count in [0, 1, 2 * half, 2 * half + 511, 1 << 23] as [UInt64] {
            do {
                try run(count).unmap()
                Issue.record("\(count) pages")
            } catch { if case .frameCount(_, count) = error {} else { Issue.record("\(count): \(error)") } }
        }
        #expect(map.foreignPageCount == 0 && map.tableByteCount == 0)
        let token = try run(2 * half + 512)
        // Two runs of large leaves, and one whose frames are not aligned: words of single pages.
        #expect(map.tableByteCount <= Int(half) * 16 + 1 << 16)
        #expect(map.frame(of: pfn(512 + half)) == bus(base + 2 * half) && map.pfn(of: bus(base + 7))?.pfn == pfn(519))
        try map.setPermissions(pfns(600, 9), .read)
        let second = try map.mapForeign(pfns(1 << 23, 2), to: [bus(base + 700), bus(base + 4 * half + 5)], of: 2, .read)
        token.unmap()
        #expect(map.pfn(of: bus(base + 700))?.pfn == pfn(1 << 23) && map.pfn(of: bus(base + 701)) == nil)
        #expect(map.audit().foreign == 2 && map.audit().inconsistent.isEmpty)
        second.unmap()
        #expect(map.foreignPageCount == 0 && map.tableByteCount == 0)
        // One run twice: each page by itself, and nothing is left.
        let twice = try map.mapForeign(pfns(0, 2 * half), toRuns: [frames[0], frames[0]], of: 2, .read)
        #expect(map.audit().foreign == 2 * half && map.audit().inconsistent.isEmpty)
        twice.unmap()
        #expect(map.foreignPageCount == 0 && map.tableByteCount == 0)
    }
}
