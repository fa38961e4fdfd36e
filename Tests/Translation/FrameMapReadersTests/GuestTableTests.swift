// A domain's own p2m, found through the shared page, against the list that it was laid out from.

import DumpWriter
import FrameMapReaders
import FrameMaps
import LinuxSystem
import Testing
import TestSupport

@Suite("The p2m that a domain keeps", .timeLimit(.minutes(2)))
struct GuestTableTests {
    private static let foreign: UInt64 = 1 << 63
    private static let identity: UInt64 = 1 << 62

    /// A p2m with holes, identity and foreign pages; its words in the guest's width.
    private func words(_ count: Int, width: Int, _ random: inout SplitMix) -> [UInt64] {
        let shift = width == 8 ? 0 : 32
        let none = width == 8 ? UInt64.max : 0xFFFF_FFFF
        let frames = Array(1000..<UInt64(1000 + count)).shuffled(using: &random)
        return (0..<count).map { index in
            switch Int.random(in: 0..<20, using: &random) {
            case 0...2: none
            // Identity pages lie where the domain has no memory.
            case 3:
                UInt64(500_000 + index) == UInt64(index)
                    ? none : (UInt64(index) < 1000 ? UInt64(index) | Self.identity >> shift : none)
            case 4: UInt64(100_000 + index) | Self.foreign >> shift
            default: frames[index]
            }
        }
    }

    @Test(arguments: [8, 4], GuestWriter.Form.allCases)
    func againstTheList(_ width: Int, _ form: GuestWriter.Form) throws {
        for seed in 1...6 as ClosedRange<UInt64> {
            var random = SplitMix(seed)
            var list = words(Int.random(in: 1...6000, using: &random), width: width, &random)
            // A large part that is empty, in shared pages.
            if seed % 2 == 0 {
                list += [UInt64](repeating: width == 8 ? .max : 0xFFFF_FFFF, count: 40_000) + list.prefix(0) + [77_777]
            }
            var writer = GuestWriter(list, width: width, form: form, unused: Array(200_000..<201_000))
            let info = SharedInfo(writer.write(), width: width)
            let table = try GuestTable(info, in: FrameMemory(frames: writer.frames))
            #expect(table.isLinear == (form == .linear) && table.entryCount == UInt64(list.count) && table.width == width)
            let snapshot = try table.snapshot(owner: 3, frameLimit: 90_000)
            #expect(snapshot.findings.count == 0, "\(snapshot.findings)")
            #expect(snapshot.map.owner == 3)
            let shift: UInt64 = width == 8 ? 0 : 32
            let (foreign, identity) = (Self.foreign >> shift, Self.identity >> shift)
            for (index, word) in list.enumerated() {
                let entry = snapshot.map.entry(at: pfn(UInt64(index)))
                switch entry {
                case .invalid, .ballooned: #expect(word == (width == 8 ? .max : 0xFFFF_FFFF), "\(index)")
                case .foreign(let answer): #expect(word == answer.frame.rawValue | foreign && answer.permissions == .read)
                case .identity(let answer): #expect(word == answer.frame.rawValue | identity)
                case .local(let answer):
                    #expect(word == answer.frame.rawValue)
                    #expect(snapshot.pfn(of: answer.frame)?.pfn.rawValue == UInt64(index))
                }
            }
            #expect(snapshot.check().count == 0)
        }
    }

    @Test("a dump's own view: the marks that its table lost, through machine frames in its pages")
    func withinADump() throws {
        for form in GuestWriter.Form.allCases {
            var list: [UInt64] = (0..<1200).map { 3000 + $0 * 7 % 1200 }
            list[5] = .max
            list[600] = 99 | Self.foreign
            list[700] = 700 | Self.identity
            // The list's own frames are pages of the domain.
            var guest = GuestWriter(list, width: 8, form: form, unused: Array(list.suffix(10)))
            let shared = guest.write()
            let entries = list.enumerated().compactMap { index, word -> (pfn: UInt64, frame: UInt64)? in
                word >> 62 == 0 ? (UInt64(index), word) : nil
            }
            let frames = guest.frames
            var writer = DumpWriter(.paravirtual, entries) { frames[entries[$0].frame] ?? DumpWriter.page(filled: UInt64($0)) }
            writer.sharedInfo = shared
            let dump = try CoreDump(MemorySource(writer.write().bytes))
            let own = try #require(try dump.guestTable()).snapshot()
            #expect(own.findings.count == 0, "\(own.findings)")
            #expect(TableDifference(dump.table, own).count == 0)
            if case .foreign(let answer) = own.map.entry(at: pfn(600)) {
                #expect(answer.frame.rawValue == 99)
            } else {
                Issue.record("not foreign")
            }
            if case .identity = own.map.entry(at: pfn(700)) {} else { Issue.record("not identity") }
            #expect(own.translate(pfn(5)) == nil && dump.table.translate(pfn(600)) == nil)
        }
    }

    @Test("what cannot be followed has a message")
    func broken() throws {
        func fails(
            _ form: GuestWriter.Form, _ says: String, width: Int = 8, _ harm: (inout [UInt8], inout [UInt64: [UInt8]]) -> Void
        ) {
            var writer = GuestWriter((0..<3000).map { 5000 + $0 }, width: width, form: form, unused: Array(1000...1100))
            var page = writer.write()
            var frames = writer.frames
            harm(&page, &frames)
            let error = #expect(throws: GuestTableError.self) {
                try GuestTable(SharedInfo(page, width: width), in: FrameMemory(frames: frames))
            }
            #expect(error?.description.contains(says) == true, "\(String(describing: error))")
        }
        fails(.linear, "told nobody") { page, _ in page = [UInt8](repeating: 0, count: 4096) }
        fails(.linear, "told nobody") { page, _ in page.put(0 as UInt64, at: 3112) }
        fails(.linear, "told nobody") { page, _ in page.put(0 as UInt64, at: 3088) }
        fails(.linear, "entries in its p2m") { page, _ in page.put(1 << 60 as UInt64, at: 3088) }
        for address in [0xFFFF_8000_0000_0000, 0x0000_8000_0000_0000, 0xFFFF_C900_0020_0008, .max - 4095, 0x7FFF_FFFF_F000]
            as [UInt64]
        {
            fails(.linear, "leaves its address space") { page, _ in page.put(address, at: 3120) }
        }
        fails(.linear, "leaves its address space", width: 4) { page, _ in page.put(0xF57F_F000 as UInt32, at: 2332) }
        // The top table's frame, then others on the way.
        fails(.linear, "a page table of level 4 in m0x") { page, frames in frames[SharedInfo(page, width: 8).pageTableFrame] = nil }
        fails(.linear, "level 4") { page, frames in
            frames[SharedInfo(page, width: 8).pageTableFrame] = [UInt8](repeating: 0, count: 4096)
        }
        fails(.linear, "level 3") { page, frames in
            // A large page where a table belongs.
            let top = frames[SharedInfo(page, width: 8).pageTableFrame]!
            let place = (0..<512).first { top[$0 * 8] != 0 }!
            let next = (0..<6).reduce(UInt64(0)) { $0 | UInt64(top[place * 8 + $1]) << UInt64(8 * $1) } >> 12
            let entry = (0..<512).first { frames[next]![$0 * 8] != 0 }!
            frames[next]![entry * 8] |= 0x80
        }
        fails(.tree, "the list of frame lists in m0x") { page, frames in frames[SharedInfo(page, width: 8).frameListList] = nil }
        fails(.tree, "a frame list in m0xffff") { page, frames in
            frames[SharedInfo(page, width: 8).frameListList]!.put(0xFFFF as UInt64, at: 0)
        }
        fails(.tree, "a page of the p2m in m0x") { page, frames in
            frames = frames.filter { frame in frame.value.number(0) < 5000 || frame.value.number(0) >= 5512 }
        }
        fails(.tree, "entries in its p2m") { page, _ in page.put(1 << 28 as UInt64, at: 3088) }
    }

    @Test("a mapping that changes while it is read is read again, and given up on")
    func generations() throws {
        var writer = GuestWriter((0..<600).map { 5000 + $0 }, width: 8, form: .linear, unused: Array(1000...1100))
        let page = writer.write(generation: 6)
        let memory = FrameMemory(frames: writer.frames)
        func info(_ generation: UInt64) -> SharedInfo {
            var info = SharedInfo(page, width: 8)
            info.generation = generation
            return info
        }
        // Odd once, changed once, then quiet.
        var script: [UInt64] = [7, 8, 10, 10, 10]
        let table = try GuestTable.stable(attempts: 5, in: memory) { info(script.removeFirst()) }
        #expect(table.entryCount == 600 && script.isEmpty)
        var count: UInt64 = 0
        let error = #expect(throws: GuestTableError.self) {
            try GuestTable.stable(attempts: 5, in: memory) {
                count += 2
                return info(count)
            }
        }
        #expect(error == .unstable(attempts: 5) && count == 20)
        #expect(throws: GuestTableError.unstable(attempts: 3)) { try GuestTable.stable(attempts: 3, in: memory) { info(9) } }
        // A walk that fails while nothing changes is told as it is.
        #expect(throws: GuestTableError.self) { try GuestTable.stable(attempts: 3, in: FrameMemory(frames: [:])) { info(8) } }
    }

    @Test("contradictions between kinds are findings")
    func conflicts() throws {
        let list: [UInt64] = [10, 11, 4 | Self.identity, 10 | Self.foreign, 3 | Self.identity, .max, 12, 5000]
        var writer = GuestWriter(list, width: 8, form: .tree, unused: Array(1000...1100))
        let snapshot = try GuestTable(SharedInfo(writer.write(), width: 8), in: FrameMemory(frames: writer.frames)).snapshot(
            frameLimit: 100)
        let words = snapshot.findings.records.map(\.description)
        #expect(words.contains("p0x3: no memory of the domain's, yet m0xa is its own at p0x0"), "\(words)")
        #expect(words.contains("p0x7: m0x1388 is beyond the machine's memory"))
        #expect(snapshot.findings.count == 2, "\(words)")
        #expect(snapshot.translate(pfn(6))?.frame.rawValue == 12)
    }

    @Test("identity behind the last own page claims nothing: Linux fills its last leaf with it")
    func filler() throws {
        func read(_ list: [UInt64]) throws -> TableSnapshot {
            var writer = GuestWriter(list, width: 8, form: .tree, unused: Array(1000...1100))
            return try GuestTable(SharedInfo(writer.write(), width: 8), in: FrameMemory(frames: writer.frames)).snapshot(
                frameLimit: 100)
        }
        // As in dom0, whose frames lie anywhere: 4 is its own, 5 is not.
        let filled = try read([4, 11, 12, 13, 4 | Self.identity, 5 | Self.identity])
        #expect(filled.findings.count == 0, "\(filled.findings.records.map(\.description))")
        #expect(filled.translate(pfn(4)) == nil && filled.translate(pfn(0))?.frame.rawValue == 4)
        #expect(filled.translate(pfn(5))?.frame.rawValue == 5 && filled.check().count == 0)
        // Before that one it is a contradiction.
        #expect(try read([2, 11, 2 | Self.identity, 13]).findings.count == 1)
    }
}

extension [UInt8] {
    fileprivate func number(_ place: Int) -> UInt64 {
        (0..<8).reduce(UInt64(0)) { $0 | UInt64(self[place + $1]) << UInt64(8 * $1) }
    }
}
