// Spaces of terabytes cost what lies in them, and memory that is given back and taken again costs nothing.

import FrameMaps
import Glibc
import Synchronization
import TestSupport
import Testing

private final class Tally: Sendable {
    let stop = Atomic<Bool>(false)
    let wrong = Atomic<Int>(0)
    let seen = Atomic<Int>(0)
}

@Suite(.timeLimit(.minutes(2)))
struct LargeSpaceTests {
    /// Half of the space is ballooned out and comes back, in one step and in steps of 1 GiB: tables of a few kilobytes,
    /// and milliseconds.
    @Test(arguments: [28, 30, 32] as [UInt64], [MemoryModel.identity, .vp])
    func balloonHalfAndBack(_ shift: UInt64, _ model: MemoryModel) throws {
        let pages: UInt64 = 1 << shift, half = pages / 2
        let map = try FrameMap(owner: 0, model: model, pfnLimit: pages, frameLimit: pages, ownFrames: pages)
        let time = try ContinuousClock().measure {
            for step in [half, 1 << 18] {
                for start in stride(from: half, to: pages, by: Int(step)) { try map.balloonOut(pfns(start, step)) }
                #expect(map.frame(of: pfn(half)) == nil && map.frame(of: pfn(pages - 1)) == nil)
                #expect(map.pfn(of: bus(half + 5)) == nil && map.frame(of: pfn(half - 1)) == bus(half - 1))
                #expect(map.tableByteCount <= 1 << 16)
                for start in stride(from: half, to: pages, by: Int(step)) { try map.map(pfns(start, step), to: bus(start)) }
                #expect(map.translate(pfn(half - 1), pages: .max)?.pageCount == half + 1)
                #expect(map.pfn(of: bus(pages - 1))?.pfn == pfn(pages - 1))
                #expect(map.tableByteCount == 0)
            }
        }
        // 4.7 s for 1 TiB before; here most of it is this machine's other work.
        #expect(time < .seconds(1), "\(time)")
        #expect(map.audit().local == pages)
    }

    /// The same where the pages come back elsewhere on the bus, as under P2M, and with other permissions: records, but
    /// large ones.
    @Test(arguments: MemoryModel.allCases)
    func comesBackElsewhere(_ model: MemoryModel) throws {
        let pages: UInt64 = 1 << 28
        let own = model == .p2m ? 0 : pages
        let map = try FrameMap(owner: 0, model: model, pfnLimit: pages, frameLimit: 4 * pages, ownFrames: own)
        if own == 0 { try map.map(pfns(0, pages), to: bus(0)) }
        let part = pfns(1 << 27 + 512, 1 << 26)
        let time = try ContinuousClock().measure {
            try map.setPermissions(part, .read)
            #expect(map.translate(pfn(part.start.rawValue + 77))?.permissions == .read)
            #expect(map.translate(pfn(part.end))?.permissions == .readWrite)
            try map.balloonOut(part)
            try map.map(part, to: bus(2 * pages + 512), .write)
        }
        #expect(map.translate(pfn(part.start.rawValue + 77), pages: 9)?.address == BusAddress(bus(2 * pages + 512 + 77), .zero))
        #expect(map.pfn(of: bus(2 * pages + 600))?.pfn == pfn(part.start.rawValue + 88))
        #expect(map.pfn(of: bus(part.start.rawValue)) == nil)
        #expect(map.tableByteCount <= 1 << 16, "\(map.tableByteCount)")
        #expect(time < .seconds(1), "\(time)")
        let audit = map.audit()
        #expect(audit.inconsistent.isEmpty && audit.local == pages && audit.ballooned == 0)
    }

    /// Single pages in the way of a large leaf go, tables and all, in the window and behind it.
    @Test(arguments: [0, 1 << 30] as [UInt64])
    func largeLeavesReplaceSmallOnes(_ base: UInt64) throws {
        let limit = base + 1 << 19
        let map = try FrameMap(owner: 0, model: .p2m, pfnLimit: limit, frameLimit: limit)
        for page in stride(from: base, to: base + 1 << 19, by: 700) { try map.balloonOut(pfns(page)) }
        #expect(map.tableByteCount > 1 << 21)
        try map.map(pfns(base, 1 << 19), to: bus(base))
        #expect(map.tableByteCount == 0 && map.translate(pfn(base), pages: .max)?.pageCount == 1 << 19)
        // A page out of it, and the rest of its 2 MiB over it again.
        try map.unmap(pfns(base + 512, 512))
        try map.balloonOut(pfns(base + 600))
        try map.map(pfns(base + 512, 512), to: bus(base + 512), .read)
        #expect(map.translate(pfn(base + 600), pages: 10)?.permissions == .read)
        #expect(map.audit().inconsistent.isEmpty && map.audit().local == 1 << 19)
    }

    /// While ranges change between single pages and large ones a reader sees the one state or the
    /// other, never a third.
    @Test func readersSeeOneOrTheOther() async throws {
        let pages: UInt64 = 1 << 19
        let map = try FrameMap(owner: 0, model: .vp, pfnLimit: pages, frameLimit: 4 * pages, ownFrames: pages)
        let tally = Tally()
        await withTaskGroup(of: Void.self) { group in
            for seed in 1...2 as ClosedRange<UInt64> {
                group.addTask {
                    var random = SplitMix(seed)
                    while !tally.stop.load(ordering: .relaxed) {
                        let number = UInt64.random(in: 0..<pages, using: &random)
                        if let frame = map.frame(of: pfn(number))?.rawValue, frame != number, frame != number + 2 * pages {
                            tally.wrong.wrappingAdd(1, ordering: .relaxed)
                        }
                        // The pool may have no more threads than readers.
                        if tally.seen.wrappingAdd(1, ordering: .relaxed).newValue % 64 == 0 { await Task.yield() }
                    }
                }
            }
            group.addTask {
                defer { tally.stop.store(true, ordering: .relaxed) }
                do {
                    for round in 0..<100 as Range<UInt64> {
                        let part = round & 1 == 0 ? pfns(0, pages) : pfns(1 << 18 - 512, 1024)
                        for page in stride(from: 0, to: pages, by: 9000) { try map.balloonOut(pfns(page)) }
                        try map.balloonOut(part)
                        try map.map(part, to: bus(part.start.rawValue + 2 * pages))
                        try map.balloonOut(pfns(0, pages))
                        try map.map(pfns(0, pages), to: bus(0))
                    }
                } catch { Issue.record(error) }
            }
        }
        #expect(tally.wrong.load(ordering: .relaxed) == 0 && tally.seen.load(ordering: .relaxed) > 0)
        #expect(map.tableByteCount == 0)
    }

    /// Own memory whose permissions have a record is in use as all of it is: found by FuzzTranslation.
    @Test func permissionsAreNoPlaceForOthers() throws {
        let map = try FrameMap(owner: 0, model: .identity, pfnLimit: 4096, frameLimit: 4096, ownFrames: 1024)
        try map.setPermissions(pfns(0, 700), .read)
        for frame in [0, 5, 699, 800] as [UInt64] {
            #expect(throws: FrameMapError.frameInUse(bus(frame), by: pfn(frame))) { try map.map(pfns(2000), to: bus(frame)) }
        }
        #expect(map.audit().inconsistent.isEmpty)
    }

    @Test func oneFrameForEachPage() throws {
        let map = try FrameMap(owner: 0, model: .p2m, pfnLimit: 100, frameLimit: 100)
        for count in [0, 1, 3] {
            // A value without copies does not go through a macro.
            do {
                let token = try map.mapForeign(pfns(10, 2), to: (0..<UInt64(count)).map { bus(50 + $0) }, of: 2, .read)
                token.unmap()
                Issue.record("\(count) frames for two pages")
            } catch { #expect(error == .frameCount(frames: count, pages: 2)) }
        }
        #expect(map.foreignPageCount == 0 && map.tableByteCount == 0)
    }
}
