// Dumps that nobody should believe: each has one message that names the part and the offset, and nothing ends the
// process.

import DumpWriter
import FrameMapReaders
import FrameMaps
import Testing
import TestSupport

/// One way to break a dump.
struct Damage: Sendable, CustomTestStringConvertible {
    let name: String
    /// Parts of the message.
    let says: [String]
    var kind = DumpWriter.Kind.paravirtual
    var prepare: @Sendable (inout DumpWriter) -> Void = { _ in }
    var harm: @Sendable (inout [UInt8], DumpWriter.Layout) -> Void = { _, _ in }
    var testDescription: String { name }
}

private func section(_ name: String, _ field: Int, _ value: UInt64) -> @Sendable (inout [UInt8], DumpWriter.Layout) -> Void {
    { $0.put(value, at: $1.headers[name, default: 0] + field) }
}
private func header32(_ name: String, _ field: Int, _ value: UInt32) -> @Sendable (inout [UInt8], DumpWriter.Layout) -> Void {
    { $0.put(value, at: $1.headers[name, default: 0] + field) }
}
private func byte(_ place: Int, _ value: UInt8) -> @Sendable (inout [UInt8], DumpWriter.Layout) -> Void {
    { bytes, _ in bytes[place] = value }
}
private func half(_ place: Int, _ value: UInt16) -> @Sendable (inout [UInt8], DumpWriter.Layout) -> Void {
    { bytes, _ in bytes.put(value, at: place) }
}
private func note<N: FixedWidthInteger & Sendable>(_ number: Int, _ place: Int, _ value: N)
    -> @Sendable (inout [UInt8], DumpWriter.Layout) -> Void
{
    { $0.put(value, at: $1.notes[number] + place) }
}

private let damages: [Damage] = [
    Damage(name: "empty", says: ["ELF header", "offset 0x0", "empty"], harm: { bytes, _ in bytes = [] }),
    Damage(name: "text", says: ["not an ELF file"], harm: { bytes, _ in bytes = Array("hello, world, this is a text".utf8) }),
    Damage(name: "before ELF", says: ["format before ELF"], harm: { bytes, _ in bytes.put(0xF00F_EBED as UInt32, at: 0) }),
    Damage(name: "8 bytes", says: ["ends within"], harm: { bytes, _ in bytes = Array(bytes.prefix(8)) }),
    Damage(name: "40 bytes", says: ["ELF header", "ends at 0x28"], harm: { bytes, _ in bytes = Array(bytes.prefix(40)) }),
    Damage(name: "class 7", says: ["offset 0x4", "class 7"], harm: byte(4, 7)),
    Damage(name: "big-endian", says: ["offset 0x5", "big-endian"], harm: byte(5, 2)),
    Damage(name: "order 9", says: ["offset 0x5", "byte order 9"], harm: byte(5, 9)),
    Damage(name: "version 2", says: ["offset 0x6", "ELF version 2"], harm: byte(6, 2)),
    Damage(name: "executable", says: ["offset 0x10", "type 2 is no core file"], harm: byte(16, 2)),
    Damage(name: "IA64", says: ["offset 0x12", "IA64"], harm: half(18, 50)),
    Damage(name: "SPARC", says: ["offset 0x12", "machine 43"], harm: half(18, 43)),
    Damage(
        name: "IA64's registers", says: [".xen_ia64_mapped_regs", "IA64"], prepare: { $0.more = [(".xen_ia64_mapped_regs", [0])] }),
    Damage(name: "header size", says: ["offset 0x3a", "section headers of 40 bytes"], harm: half(58, 40)),
    Damage(name: "no sections", says: ["offset 0x3c", "no section headers"], harm: half(60, 0)),
    Damage(name: "many sections", says: ["offset 0x3c", "60000 section headers", "the file ends"], harm: half(60, 60000)),
    Damage(
        name: "more sections than make sense", says: ["offset 0x3c", "at most 1048576"],
        harm: { bytes, _ in
            bytes.put(0 as UInt16, at: 60)
            bytes.put(1 << 40 as UInt64, at: 64 + 32)
        }),
    Damage(name: "names elsewhere, and there nowhere", says: ["offset 0x3e", "section 0 of"], harm: half(62, 0xFFFF)),
    Damage(
        name: "sections beyond", says: ["section headers, offset 0x7fffffffffffff00"],
        harm: { bytes, _ in bytes.put(0x7FFF_FFFF_FFFF_FF00 as UInt64, at: 40) }),
    Damage(name: "name table 0", says: ["offset 0x3e", "cannot hold"], harm: half(62, 0)),
    Damage(name: "name table 99", says: ["offset 0x3e", "section 99 of"], harm: half(62, 99)),
    Damage(name: "name table is a note", says: ["no string table (type 7)"], harm: header32(".shstrtab", 4, 7)),
    Damage(name: "names of 70000 bytes", says: ["section names", "70000"], harm: section(".shstrtab", 32, 70000)),
    Damage(name: "names beyond the end", says: ["section names", "the file ends"], harm: section(".shstrtab", 24, 1 << 60)),
    Damage(name: "a name beyond its table", says: ["the name of section", "does not end"], harm: header32(".xen_pages", 0, 60000)),
    Damage(
        name: "a name without end", says: ["does not end"],
        harm: { bytes, layout in
            bytes[layout.offsets[".shstrtab", default: 0] + layout.sizes[".shstrtab", default: 0] - 1] = 0x41
        }),
    Damage(
        name: "two of a name", says: ["are both named .xen_p2m"],
        harm: { bytes, layout in
            let name = Array(bytes[layout.headers[".xen_p2m", default: 0]..<layout.headers[".xen_p2m", default: 0] + 4])
            bytes.replaceSubrange(
                layout.headers[".xen_prstatus", default: 0]..<layout.headers[".xen_prstatus", default: 0] + 4, with: name)
        }),
    Damage(name: "no notes", says: ["no section .note.Xen"], harm: header32(".note.Xen", 4, 0)),
    Damage(name: "notes of another type", says: ["section .note.Xen", "section type 1, not 7"], harm: header32(".note.Xen", 4, 1)),
    Damage(
        name: "notes beyond the end", says: ["section .note.Xen, offset 0xfffffffffffffff0", "end beyond"],
        harm: section(".note.Xen", 24, .max - 15)),
    Damage(
        name: "notes of 1 MiB", says: ["section .note.Xen", "at most 65536"],
        prepare: { $0.more = [("x", [UInt8](repeating: 0, count: 1 << 21))] }, harm: section(".note.Xen", 32, 1 << 20)),
    Damage(name: "half a note", says: ["section .note.Xen", "7 bytes are left"], harm: section(".note.Xen", 32, 1384 + 7)),
    Damage(name: "a long note", says: ["section .note.Xen", "does not fit"], harm: note(1, 4, UInt32.max)),
    Damage(name: "a long note's name", says: ["section .note.Xen", "does not fit"], harm: note(1, 0, UInt32.max)),
    Damage(name: "not marked", says: ["section .note.Xen", "marks a Xen dump"], harm: note(0, 8, 1 as UInt32)),
    Damage(name: "no header note", says: ["no note HEADER"], harm: note(1, 8, 1 as UInt32)),
    Damage(name: "short header note", says: ["note HEADER has 28 bytes"], harm: note(1, 4, 28 as UInt32)),
    Damage(
        name: "short version note", says: ["note XEN_VERSION has"],
        harm: { bytes, layout in
            // Shorter by a note that fills the place.
            bytes.put(1000 as UInt32, at: layout.notes[2] + 4)
            let rest = layout.notes[2] + 16 + 1000
            for (index, word) in [4, 264, 77, 0x6E6558].enumerated() { bytes.put(UInt32(word), at: rest + index * 4) }
        }),
    Damage(name: "two header notes", says: ["a second note HEADER"], harm: note(2, 8, 0x200_0001 as UInt32)),
    Damage(name: "no format note", says: ["no note FORMAT_VERSION"], harm: note(3, 8, 1 as UInt32)),
    Damage(name: "format 2.1", says: ["format version 2.1"], harm: note(3, 20, 2 as UInt32)),
    Damage(name: "magic", says: ["note HEADER: magic number 0x1234"], harm: note(1, 16, 0x1234 as UInt64)),
    Damage(name: "page size", says: ["pages of 16384 bytes"], harm: note(1, 40, 16384 as UInt64)),
    Damage(name: "no pages", says: ["no section .xen_pages"], harm: header32(".xen_pages", 4, 0)),
    Damage(
        name: "pages' size", says: ["section .xen_pages", "8192 bytes for 3 pages of 4096"], harm: section(".xen_pages", 32, 8192)),
    Damage(name: "pages that wrap", says: ["section .xen_pages", "end beyond"], harm: section(".xen_pages", 24, .max - 4095)),
    Damage(name: "pages' entries", says: ["section .xen_pages", "entries of 512 bytes"], harm: section(".xen_pages", 56, 512)),
    Damage(name: "compressed", says: ["section .xen_pages", "compressed"], harm: section(".xen_pages", 8, 1 << 11)),
    Damage(name: "no table", says: ["neither a section .xen_p2m nor .xen_pfn"], harm: header32(".xen_p2m", 4, 0)),
    Damage(name: "both tables", says: ["both .xen_p2m and .xen_pfn"], prepare: { $0.more = [(".xen_pfn", [])] }),
    Damage(
        name: "the other table", says: ["section .xen_pfn", "the other kind"], kind: .autoTranslated,
        harm: note(1, 16, 0xF00F_EBED as UInt64)),
    Damage(name: "the table's type", says: ["section .xen_p2m", "section type 8, not 1"], harm: header32(".xen_p2m", 4, 8)),
    Damage(
        name: "the table's entries", says: ["section .xen_p2m", "entries of 8 bytes, not 16"], harm: section(".xen_p2m", 56, 8)),
    Damage(name: "half an entry", says: ["section .xen_p2m", "40 bytes are no whole number"], harm: section(".xen_p2m", 32, 40)),
    Damage(name: "fewer entries", says: ["section .xen_p2m", "2 entries for the 3 pages"], harm: section(".xen_p2m", 32, 32)),
    Damage(name: "the table beyond", says: ["section .xen_p2m", "end beyond"], harm: section(".xen_p2m", 24, 1 << 40)),
    Damage(
        name: "2^60 pages", says: ["section .xen_p2m", "3 entries for the 1152921504606846976 pages"],
        harm: note(1, 32, 1 << 60 as UInt64)),
]

@Suite("Dumps that are broken", .timeLimit(.minutes(3)))
struct BrokenDumpTests {
    private func open(_ bytes: [UInt8]) -> Result<CoreDump, DumpError> {
        do { return .success(try CoreDump(MemorySource(bytes))) } catch { return .failure(error) }
    }

    @Test(arguments: damages)
    func message(_ damage: Damage) throws {
        var writer = DumpWriter(damage.kind, [(1, 10), (2, 11), (5, 40)])
        damage.prepare(&writer)
        var (bytes, layout) = writer.write()
        _ = try damage.kind == .paravirtual || CoreDump(MemorySource(bytes)).table.usedCount == 3
        damage.harm(&bytes, layout)
        let error = #expect(throws: DumpError.self) { try CoreDump(MemorySource(bytes)) }
        let text = error?.description ?? "nothing"
        for part in damage.says { #expect(text.contains(part), "\(text)") }
        #expect(text.contains("offset 0x") && !text.contains("\n"))
    }

    @Test("cut short at every length: an error, or pages that are said to be missing")
    func everyLength() throws {
        for order in [[], [".xen_p2m", ".shstrtab"], [".xen_pages"]] {
            var writer = DumpWriter(.paravirtual, [(1, 10), (2, 11), (5, 40)])
            writer.fileOrder = order
            let (bytes, layout) = writer.write()
            var (refused, partly) = (0, 0)
            for length in stride(from: 0, to: bytes.count, by: 13) {
                let dump: CoreDump
                switch open(Array(bytes.prefix(length))) {
                case .failure(let error):
                    refused += 1
                    #expect(error.description.contains("offset 0x"))
                    continue
                case .success(let opened): dump = opened
                }
                partly += 1
                // Everything still translates, and what is missing is said.
                #expect(dump.table.translate(pfn(5))?.frame.rawValue == 40)
                #expect(dump.table.findings.count > 0)
                let there = max(0, length - layout.offsets[".xen_pages", default: 0]) / 4096
                for (page, number) in [1, 2, 5].enumerated() where page < there {
                    #expect(try dump.contents(of: pfn(UInt64(number))) == writer.contents(page))
                }
                if there < 3 {
                    let error = #expect(throws: DumpError.self) { try dump.contents(of: pfn(5)) }
                    #expect(error?.description.hasPrefix("section .xen_pages, offset 0x") == true)
                }
            }
            #expect(refused > 0)
            if order.count == 2 { #expect(partly > 100) }
        }
    }

    @Test("any bytes changed: no trap, and what is read is sound", arguments: [1, 2, 3, 4] as [UInt64])
    func changedBytes(_ seed: UInt64) throws {
        var random = SplitMix(seed)
        let writer = DumpWriter(seed % 2 == 0 ? .paravirtual : .autoTranslated, scatteredEntries(20, random: &random))
        let (good, layout) = writer.write()
        var opened = 0
        for _ in 0..<5000 {
            var bytes = good
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                // Mostly where it hurts: header, section headers, notes, table.
                let tableName = seed % 2 == 0 ? ".xen_p2m" : ".xen_pfn"
                let area = [
                    0..<64, 64..<600, layout.notes[0]..<layout.notes[2] + 40,
                    layout.offsets[tableName, default: 0]..<layout.offsets[tableName, default: 0]
                        + layout.sizes[tableName, default: 0], 0..<bytes.count,
                ].randomElement(using: &random)!
                bytes[Int.random(in: area, using: &random)] = [0, 1, 0x7F, 0x80, 0xFF, UInt8.random(in: 0...255, using: &random)]
                    .randomElement(using: &random)!
            }
            guard let dump = try? CoreDump(MemorySource(bytes)) else { continue }
            opened += 1
            #expect(dump.table.map.audit().inconsistent.isEmpty)
            dump.table.forEachPage { number, _ in _ = try? dump.contents(of: number) }
        }
        #expect(opened > 250)
    }

    @Test("what does not fit in a map is found, and the rest is read")
    func findings() throws {
        let entries: [(pfn: UInt64, frame: UInt64)?] = [
            (1, 10), (2, 11), (3, 10), nil, (4, 12), (4, 13), (3, 50), (1 << 45, 14), (9, 1 << 50), (8, 20), (20, 30), (21, 31),
            (22, 11),
        ]
        let dump = try CoreDump(MemorySource(DumpWriter(.paravirtual, entries).write().bytes))
        let findings = dump.table.findings
        let words = findings.records.map(\.description)
        for expected in [
            "p0x3: m0xa is at p0x1 already", "entry 4: in use after an unused one", "p0x4: a second entry, m0xd after m0xc",
            "p0x3: a second entry, m0x32 after m0xa", "entry 6: a smaller pfn than the entry before",
            "entry 7: p0x200000000000 is beyond what a domain can have", "p0x9: m0x4000000000000 is beyond the machine's memory",
            "entry 8: a smaller pfn than the entry before", "entry 9: a smaller pfn than the entry before",
            "p0x16: m0xb is at p0x2 already",
        ] { #expect(words.contains(expected), "\(expected) in \(words)") }
        #expect(findings.count == 10, "\(words)")
        // Aliases answer forward, and backward with the first.
        #expect(dump.table.translate(pfn(3))?.frame.rawValue == 10 && dump.table.translate(pfn(22), pages: 9)?.pageCount == 1)
        #expect(dump.table.pfn(of: bus(10))?.pfn.rawValue == 1)
        #expect(try dump.contents(of: pfn(3)) == DumpWriter.page(filled: 2))
        #expect(
            try dump.contents(of: pfn(21)) == DumpWriter.page(filled: 11)
                && dump.contents(of: mfn(31)) == DumpWriter.page(filled: 11))
        #expect(try dump.contents(of: pfn(1 << 45)) == nil && dump.contents(of: pfn(9)) == nil)
    }

    @Test("a pfn's page is that of the entry that the map has, not of an earlier one that nobody believes")
    func pageOfTheEntryThatCounts() throws {
        let dump = try CoreDump(MemorySource(DumpWriter(.paravirtual, [(5, 1 << 50), (5, 20), (5, 21)]).write().bytes))
        #expect(dump.table.translate(pfn(5))?.frame.rawValue == 20)
        #expect(try dump.contents(of: pfn(5))?.first == DumpWriter.page(filled: 1).first)
        #expect(try dump.contents(of: mfn(20))?.prefix(64) == DumpWriter.page(filled: 1).prefix(64))
        #expect(dump.table.findings.count == 2)
    }

    @Test("sections that translation does not need: found, not refused")
    func lesserSections() throws {
        for (harm, words) in [
            (section(".xen_shared_info", 32, 100), "section .xen_shared_info"),
            (section(".xen_shared_info", 24, 1 << 61), "end beyond"),
            (section(".xen_prstatus", 32, 100), "100 bytes for 1 processors of 5168"),
            (header32(".xen_prstatus", 4, 0), "no section .xen_prstatus"),
        ] {
            var (bytes, layout) = DumpWriter(.paravirtual, [(1, 10)]).write()
            harm(&bytes, layout)
            let dump = try CoreDump(MemorySource(bytes))
            #expect(dump.table.findings.records.contains { $0.description.contains(words) }, "\(dump.table.findings)")
            #expect(dump.table.translate(pfn(1)) != nil)
        }
    }

    @Test("a table that contradicts itself without end is refused, and remembered in bounded memory")
    func endlessContradiction() throws {
        var entries: [UInt8] = []
        let count = 1 << 18 + 10
        for number in 0..<UInt64(count) {
            entries.append(number: number)
            entries.append(number: 7 as UInt64)
        }
        var writer = DumpWriter(.paravirtual, [])
        writer.notedPages = UInt64(count)
        var (bytes, layout) = writer.write()
        bytes.put(UInt64(count * 4096), at: layout.headers[".xen_pages", default: 0] + 32)
        bytes.put(UInt64(bytes.count), at: layout.headers[".xen_p2m", default: 0] + 24)
        bytes.put(UInt64(entries.count), at: layout.headers[".xen_p2m", default: 0] + 32)
        bytes += entries
        let error = #expect(throws: DumpError.self) { try CoreDump(MemorySource(bytes)) }
        #expect(error?.description.contains("contradict") == true, "\(String(describing: error))")
    }
}
