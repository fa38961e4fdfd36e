// The edges: tops, wraps, superpages, memory limits, tokens, and readers while a writer is at work.

import FrameMaps
import Synchronization
import Testing
import TestSupport

private final class Tally: Sendable {
    let stop = Atomic<Bool>(false)
    let wrong = Atomic<Int>(0)
    let seen = Atomic<Int>(0)
}

@Suite(.timeLimit(.minutes(1)))
struct EdgeTests {
    @Test func rangesCannotWrap() {
        let top = frameNumberLimit
        #expect(FrameRange(Pfn(rawValue: top - 1), count: 1)?.endsAtTop == true)
        #expect(FrameRange(Pfn(rawValue: top), count: 0)?.isEmpty == true)
        #expect(FrameRange(Pfn(rawValue: top - 1), count: 2) == nil)
        #expect(FrameRange(Pfn(rawValue: .max), count: 1) == nil)
        #expect(FrameRange(Pfn(rawValue: 1), count: .max) == nil)
        #expect(Pfn(rawValue: top - 1).advanced(by: 1) == nil)
        #expect(Pfn(rawValue: 5).advanced(by: .max) == nil)
        #expect(BusAddress(rawValue: .max).advanced(by: 1) == nil)
        #expect(PageOffset(4096) == nil && PageOffset(-1) == nil && PageOffset(4095)?.bytesLeft == 1)
    }

    /// attacks.md PM8: nothing traps or aliases at the edges of the frame space.
    @Test(arguments: MemoryModel.allCases)
    func lookUpsAtTheTop(_ model: MemoryModel) throws {
        let limit: UInt64 = 1000
        let map = try FrameMap(owner: 0, model: model, pfnLimit: limit, frameLimit: limit)
        try map.map(pfns(limit - 1), to: bus(limit - 1))
        for value in [limit, limit + 1, 1 << 18, 1 << 40, 1 << 52, (1 << 52) + 999, .max, .max - 1] as [UInt64] {
            #expect(map.translate(pfn(value), pages: 3) == nil)
            #expect(map.pfn(of: bus(value)) == nil)
            #expect(map.entry(at: pfn(value)) == .invalid)
        }
        #expect(map.translate(pfn(limit - 1), pages: .max)?.pageCount == 1)
        #expect(throws: FrameMapError.self) { try map.map(pfns(limit - 1, 2), to: bus(0)) }
        #expect(throws: FrameMapError.self) { try map.map(pfns(0, 2), to: bus(limit - 1)) }
        #expect(throws: FrameMapError.self) { try map.map(pfns(0, 1), to: bus(.max)) }
        #expect(throws: FrameMapError.self) { try map.unmap(pfns(frameNumberLimit - 1)) }
    }

    /// A domain of 1 TiB with memory at both ends: tables are paid for what is mapped.
    @Test func sparse() throws {
        let map = try FrameMap(owner: 0, model: .p2m, pfnLimit: 1 << 28, frameLimit: 1 << 28)
        try map.map(pfns(0), to: bus((1 << 28) - 1))
        try map.map(pfns((1 << 28) - 1), to: bus(0))
        #expect(map.tableByteCount == 8 * 4096)
        // 512 GiB in superpages of 1 GiB need no table at all.
        try map.map(pfns(1 << 27, 1 << 26), to: bus(1 << 26))
        #expect(map.tableByteCount == 8 * 4096)
        #expect(map.translate(pfn((1 << 27) + 12345), pages: 1 << 30)?.pageCount == (1 << 26) - 12345)
        #expect(map.frame(of: pfn((1 << 27) + 12345)) == bus((1 << 26) + 12345))
        #expect(map.pfn(of: bus((1 << 26) + 54321))?.pfn == pfn((1 << 27) + 54321))
        try map.unmap(pfns(0))
        try map.unmap(pfns((1 << 28) - 1))
        #expect(map.tableByteCount == 0)
    }

    /// attacks.md PM3, PM6: parts of superpages change and nothing else does; both directions agree at every step.
    @Test func superpagesSplit() throws {
        let map = try FrameMap(owner: 0, model: .p2m, pfnLimit: 1 << 20, frameLimit: 1 << 20)
        try map.map(pfns(1 << 18, 1 << 18), to: bus(0))
        try map.setPermissions(pfns((1 << 18) + 700, 3), .read)
        #expect(map.translate(pfn((1 << 18) + 699), pages: 10)?.pageCount == 1)
        #expect(map.translate(pfn((1 << 18) + 700), pages: 10)?.permissions == .read)
        #expect(map.translate(pfn((1 << 18) + 703), pages: 1 << 18)?.pageCount == (1 << 18) - 703)
        try map.unmap(pfns((1 << 18) + 1000, 600))
        #expect(map.pfn(of: bus(999))?.pfn == pfn((1 << 18) + 999))
        #expect(map.pfn(of: bus(1000)) == nil && map.pfn(of: bus(1599)) == nil)
        #expect(map.pfn(of: bus(1600))?.pfn == pfn((1 << 18) + 1600))
        #expect(map.audit().local == (1 << 18) - 600)
        #expect(map.audit().inconsistent.isEmpty)
        // A frame that came free can be used again, also under another superpage's nose.
        try map.map(pfns(0, 600), to: bus(1000))
        #expect(map.audit().inconsistent.isEmpty)
    }

    /// attacks.md PM5, PM10: table memory runs out at each possible place; nothing is changed, and nothing is lost.
    @Test func tableMemoryRunsOut() throws {
        for limit in 0..<9 {
            let map = try FrameMap(owner: 0, model: .p2m, pfnLimit: 1 << 28, frameLimit: 1 << 28, tableLimit: limit)
            let did = (try? map.map(pfns((1 << 18) - 300, 600), to: bus((1 << 20) + 5))) != nil
            #expect(did == (limit >= 4))
            if !did { #expect(map.tableByteCount == 0) }
            #expect(map.audit().local == (did ? 600 : 0))
            if did { try map.unmap(pfns((1 << 18) - 300, 600)) }
            // A superpage maps without tables; to cut it two are needed on each side.
            try map.map(pfns(1 << 19, 1 << 18), to: bus(0))
            let cut = (try? map.unmap(pfns((1 << 19) + 5))) != nil
            #expect(cut == (limit >= 2))
            #expect(map.audit().local == (1 << 18) - (cut ? 1 : 0))
            #expect(map.audit().inconsistent.isEmpty)
        }
        let map = try FrameMap(owner: 0, model: .p2m, pfnLimit: 1 << 40, frameLimit: 1 << 40, tableLimit: 100)
        var mapped: UInt64 = 0
        #expect(throws: FrameMapError.tableMemory(limit: 100)) {
            for step in 0..<1000 as Range<UInt64> {
                try map.map(pfns(step << 27), to: bus(step << 27))
                mapped += 1
            }
        }
        #expect(mapped == 50)
        #expect(map.audit().inconsistent.isEmpty && map.audit().local == mapped)
    }

    /// attacks.md PM12: a mapping that fails leaves the old one as it was.
    @Test func failedMapKeepsTheOld() throws {
        let map = try FrameMap(owner: 0, model: .p2m, pfnLimit: 1 << 20, frameLimit: 1 << 20)
        try map.map(pfns(100, 10), to: bus(500), .read)
        #expect(throws: FrameMapError.alreadyMapped(pfn(100))) { try map.map(pfns(95, 10), to: bus(700)) }
        #expect(throws: FrameMapError.frameInUse(bus(505), by: pfn(105))) { try map.map(pfns(200, 10), to: bus(505)) }
        #expect(throws: FrameMapError.notMapped(pfn(110))) { try map.unmap(pfns(105, 10)) }
        #expect(
            map.translate(pfn(100), pages: 99).map {
                [$0.pageCount, $0.frame.rawValue, UInt64($0.permissions.rawValue)]
            } == [10, 500, 1])
        #expect(map.audit().local == 10)
    }

    @Test func tokensRestore() throws {
        let map = try FrameMap(owner: 0, model: .identity, pfnLimit: 2000, frameLimit: 1 << 20, ownFrames: 1000)
        try map.balloonOut(pfns(10, 4))
        do {
            let token = try map.mapForeign(pfns(10, 2), to: [bus(5000), bus(5000)], of: 3, .read)
            #expect(map.pfn(of: bus(5000))?.isForeign == true)
            #expect(throws: FrameMapError.isForeign(pfn(10))) { try map.unmap(pfns(10)) }
            #expect(throws: FrameMapError.notBallooned(pfn(11))) {
                _ = try map.mapForeign(pfns(11), to: [bus(6000)], of: 3, .read)
            }
            #expect(throws: FrameMapError.frameInUse(bus(7), by: pfn(7))) {
                _ = try map.mapForeign(pfns(12), to: [bus(7)], of: 3, .read)
            }
            token.unmap()
        }
        #expect(map.entry(at: pfn(10)) == .ballooned && map.pfn(of: bus(5000)) == nil)
        do { _ = try map.mapForeign(pfns(1500, 3), to: [bus(9), bus(5000), bus(5001)], of: 3, .read) } catch {
            #expect(error == .frameInUse(bus(9), by: pfn(9)))
        }
        #expect(map.entry(at: pfn(1500)) == .invalid)
        #expect(map.foreignPageCount == 0)
    }

    /// attacks.md PM2: readers without a lock while ranges come and go, their tables with them. Each pfn is only ever
    /// mapped to two frames, so any third answer is a torn or stale table. Run under ThreadSanitizer, it is silent.
    @Test func readersAndAWriter() async throws {
        let map = try FrameMap(owner: 0, model: .p2m, pfnLimit: 1 << 20, frameLimit: 1 << 22)
        let tally = Tally()
        await withTaskGroup(of: Void.self) { group in
            for reader in 0..<3 as Range<UInt64> {
                group.addTask {
                    var random = SplitMix(reader)
                    for round in 0... {
                        if tally.stop.load(ordering: .relaxed) { break }
                        // Readers may outnumber the pool's threads: the writer must get one.
                        if round % 256 == 0 { await Task.yield() }
                        let index = UInt64.random(in: 0..<1 << 20, using: &random)
                        if let answer = map.translate(pfn(index), pages: 4) {
                            tally.seen.wrappingAdd(1, ordering: .relaxed)
                            let frame = answer.frame.rawValue
                            if frame != index + (1 << 20) && frame != index + (2 << 20) {
                                tally.wrong.wrappingAdd(1, ordering: .relaxed)
                            }
                            if let back = map.pfn(of: answer.frame), back.pfn != pfn(index) {
                                tally.wrong.wrappingAdd(1, ordering: .relaxed)
                            }
                        }
                    }
                }
            }
            group.addTask {
                var random = SplitMix(99)
                for _ in 0..<3000 {
                    let count: UInt64 = [1, 100, 512, 2000, 1 << 18].randomElement(using: &random)!
                    let start = UInt64.random(in: 0..<(1 << 20) - count, using: &random) & ~(count >= 512 ? 511 : 0)
                    let range = pfns(start, count)
                    if (try? map.map(range, to: bus(start + (UInt64.random(in: 1...2, using: &random) << 20)))) == nil {
                        // Whatever stands there goes, in pieces if need be.
                        map.forEachRun(in: range) { run, entry in
                            if entry.translation != nil { try? map.unmap(run) }
                            return true
                        }
                    }
                }
                tally.stop.store(true, ordering: .relaxed)
            }
        }
        #expect(tally.wrong.load(ordering: .relaxed) == 0)
        #expect(tally.seen.load(ordering: .relaxed) > 0)
        #expect(map.audit().inconsistent.isEmpty)
    }

    /// One table changes hands between two pfns as fast as it can; a reader of the one must never see the other's
    /// frame. This is the test that fails when a reader does not look at the structure's number again.
    @Test(arguments: [0, 1 << 30] as [UInt64])
    func tablesChangeHands(_ windowLimit: UInt64) async throws {
        // Three tables: an idle one has to go whenever the other place needs its own.
        let map = try FrameMap(
            owner: 0, model: .p2m, pfnLimit: 1 << 20, frameLimit: 1 << 22, tableLimit: 3, windowLimit: windowLimit)
        let tally = Tally()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for round in 0... {
                    if tally.stop.load(ordering: .relaxed) { break }
                    if round % 4096 == 0 { await Task.yield() }
                    if let frame = map.frame(of: pfn(5)), frame != bus(1000) {
                        tally.wrong.wrappingAdd(1, ordering: .relaxed)
                    }
                }
            }
            group.addTask {
                for _ in 0..<(windowLimit == 0 ? 40_000 : 5_000) {
                    do {
                        try map.map(pfns(5), to: bus(1000))
                        try map.unmap(pfns(5))
                        try map.map(pfns((1 << 18) + 5), to: bus(2000))
                        try map.unmap(pfns((1 << 18) + 5))
                    } catch { tally.wrong.wrappingAdd(1, ordering: .relaxed) }
                }
                tally.stop.store(true, ordering: .relaxed)
            }
        }
        #expect(tally.wrong.load(ordering: .relaxed) == 0)
        #expect(map.tableByteCount == 0)
    }
}
