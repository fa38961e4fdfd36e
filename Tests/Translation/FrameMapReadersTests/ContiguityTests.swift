import DumpWriter
import FrameMapReaders
import FrameMaps
import Testing
import TestSupport

@Suite("Runs, holes, differences", .timeLimit(.minutes(2)))
struct ContiguityTests {
    @Test(arguments: [1, 2, 3, 4, 5] as [UInt64])
    func againstTheList(_ seed: UInt64) throws {
        var random = SplitMix(seed)
        let entries = scatteredEntries(400, random: &random)
        let dump = try CoreDump(MemorySource(DumpWriter(.paravirtual, entries).write().bytes))
        let found = Contiguity(dump.table.map)
        // The slow way: cut the list wherever one of the two numbers does not go up by one.
        var runs: [[(pfn: UInt64, frame: UInt64)]] = []
        for entry in entries {
            if let last = runs.last?.last, last.pfn + 1 == entry.pfn, last.frame + 1 == entry.frame {
                runs[runs.count - 1].append(entry)
            } else {
                runs.append([entry])
            }
        }
        #expect(found.pages == 400 && found.local == 400 && found.runs == UInt64(runs.count))
        #expect(found.longest?.pages == UInt64(runs.map(\.count).max()!))
        for (size, entry) in found.classes.enumerated() {
            let here = runs.filter { $0.count >= 1 << size && $0.count < 2 << size }
            #expect(entry.runs == UInt64(here.count) && entry.pages == UInt64(here.reduce(0) { $0 + $1.count }))
        }
        let present = Set(entries.map(\.pfn))
        let span = entries[0].pfn...entries[399].pfn
        #expect(found.firstPfn == span.lowerBound && found.lastPfn == span.upperBound)
        #expect(found.holes == UInt64(span.count - present.count))
        #expect(found.gaps == UInt64(span.filter { !present.contains($0) && present.contains($0 - 1) }.count))
        #expect(found.lowestFrame == entries.map(\.frame).min() && found.highestFrame == entries.map(\.frame).max())
    }

    @Test func largePages() throws {
        let entries: [(pfn: UInt64, frame: UInt64)?] =
            (0..<1100).map { (512 + $0, 5120 + $0) } + (0..<600).map { (4096 + $0, 20001 + $0) }
            + (0..<530).map { (8000 + $0, 32000 + $0 + 512 * 3) }
        let found = Contiguity(try CoreDump(MemorySource(DumpWriter(.paravirtual, entries).write().bytes)).table.map)
        // Two in the first; none in the second, which is not aligned alike; in the third one aligned piece within
        // 8000…8529 is 8192…8703: none.
        #expect(found.runs == 3 && found.largePages == 2)
    }

    @Test func differences() throws {
        func table(_ entries: [(pfn: UInt64, frame: UInt64)?]) throws -> TableSnapshot {
            try CoreDump(MemorySource(DumpWriter(.paravirtual, entries).write().bytes)).table
        }
        let first = try table([(1, 10), (2, 11), (3, 12), (5, 10)])
        let second = try table([(1, 10), (2, 13), (4, 14), (5, 10)])
        let difference = TableDifference(first, second)
        #expect(difference.same == 2 && difference.count == 3)
        #expect(
            difference.changes.map(\.description) == [
                "p0x2: m0xb, then m0xd", "p0x3: m0xc, then nothing", "p0x4: nothing, then m0xe",
            ])
        #expect(TableDifference(first, first).count == 0)
        // Against the machine's own table.
        let wrong = first.check { frame in frame.rawValue == 11 ? 7 : frame.rawValue == 12 ? nil : 1 }
        let words = wrong.records.map(\.description)
        #expect(
            words.contains("p0x2: Xen's own table says p0x7 of m0xb")
                && words.contains("p0x3: Xen's own table says nothing of m0xc"), "\(words)")
        #expect(wrong.count == first.findings.count + 2)
    }
}
