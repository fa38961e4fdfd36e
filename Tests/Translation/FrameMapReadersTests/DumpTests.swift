// Dumps as Xen writes them, against the list that they were written from.

import DumpWriter
import FrameMapReaders
import FrameMaps
import Glibc
import LinuxSystem
import Testing
import TestSupport

@Suite("Dumps that Xen would write", .timeLimit(.minutes(2)))
struct DumpTests {
    /// The reader against the plain list of entries, searched from end to end.
    private func compare(_ dump: CoreDump, _ writer: DumpWriter) throws {
        let used = writer.entries.compactMap { $0 }
        let isPV = writer.kind == .paravirtual
        #expect(dump.table.usedCount == UInt64(used.count) && dump.table.entryCount == UInt64(writer.entries.count))
        let last = used.map(\.pfn).max() ?? 0
        for number in 0...last + 3 {
            let entry = used.first { $0.pfn == number }
            let frame = entry.map { isPV ? $0.frame : $0.pfn }
            // The run: as long as the list goes on in both numbers.
            var run: UInt64 = 1
            while let frame, run < 100,
                used.contains(where: { $0.pfn == number + run && (isPV ? $0.frame : $0.pfn) == frame + run })
            {
                run += 1
            }
            let answer = dump.table.translate(pfn(number), PageOffset(ofAddress: 7), pages: 100)
            #expect(answer?.frame.rawValue == frame && answer?.pageCount == (frame == nil ? nil : run), "\(number)")
            #expect(answer?.offset.rawValue == (frame == nil ? nil : 7))
            #expect(dump.table.map.machineFrame(of: pfn(number))?.rawValue == (isPV ? frame : nil))
        }
        for (page, entry) in writer.entries.enumerated() {
            guard let entry else { continue }
            #expect(try dump.contents(of: pfn(entry.pfn)) == writer.contents(page))
            #expect(try dump.contents(of: mfn(entry.frame)) == (isPV ? writer.contents(page) : nil))
            let back = dump.table.pfn(of: bus(isPV ? entry.frame : entry.pfn))
            #expect(back?.pfn.rawValue == entry.pfn && back?.isForeign == false)
        }
        #expect(try dump.contents(of: pfn(last + 1)) == nil && dump.contents(of: mfn(1 << 50)) == nil)
    }

    @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64])
    func againstTheList(_ seed: UInt64) throws {
        var random = SplitMix(seed)
        var entries: [(pfn: UInt64, frame: UInt64)?] = scatteredEntries(Int.random(in: 0...300, using: &random), random: &random)
        entries += [nil, nil, nil].prefix(Int(seed % 4))
        var writer = DumpWriter(seed % 2 == 0 ? .paravirtual : .autoTranslated, entries)
        writer.processors = seed
        let dump = try CoreDump(MemorySource(writer.write().bytes))
        #expect(dump.table.findings.count == 0 && dump.header.processors == seed)
        #expect(dump.header.kind == (seed % 2 == 0 ? .paravirtual : .autoTranslated))
        #expect(dump.header.xenVersion == "4.17.4-pre" && dump.header.capabilities == "xen-3.0-x86_64 hvm-3.0-x86_64")
        try compare(dump, writer)
        #expect(dump.table.check().count == 0)
    }

    @Test(
        "sections in any order, of 32-bit tools, of a 32-bit guest, without a shared page",
        arguments: [11, 12, 13, 14, 15, 16] as [UInt64])
    func forms(_ seed: UInt64) throws {
        var random = SplitMix(seed)
        var writer = DumpWriter(seed % 2 == 0 ? .paravirtual : .autoTranslated, scatteredEntries(60, random: &random))
        let names = [
            ".shstrtab", ".note.Xen", ".xen_prstatus", ".xen_shared_info", ".xen_pages",
            seed % 2 == 0 ? ".xen_p2m" : ".xen_pfn", ".something",
        ]
        writer.more = [(".something", [1, 2, 3])]
        writer.headerOrder = names.shuffled(using: &random)
        writer.fileOrder = names.shuffled(using: &random)
        writer.isClass64 = seed % 3 != 0
        if seed % 4 == 0 { writer.machine = 3 }
        if seed % 3 == 1 { writer.sharedInfo = nil }
        let dump = try CoreDump(MemorySource(writer.write().bytes))
        #expect(dump.table.findings.count == 0, "\(dump.table.findings)")
        #expect(dump.header.guestWidth == (seed % 4 == 0 ? 4 : 8))
        #expect(try (dump.sharedInfo() == nil) == (seed % 3 == 1))
        try compare(dump, writer)
    }

    @Test("translating never touches the pages: they are not readable here")
    func inaccessiblePages() throws {
        var random = SplitMix(21)
        let entries = scatteredEntries(500, random: &random)
        let (bytes, layout) = DumpWriter(.paravirtual, entries).write()
        let start = layout.offsets[".xen_pages", default: 0]
        let source = try ForbiddenSource(bytes, forbidden: start..<start + layout.sizes[".xen_pages", default: 0])
        let dump = try CoreDump(source)
        for entry in entries {
            #expect(dump.table.translate(pfn(entry.pfn))?.frame.rawValue == entry.frame)
            #expect(dump.table.pfn(of: bus(entry.frame))?.pfn.rawValue == entry.pfn)
        }
        #expect(dump.table.check { frame in entries.first { $0.frame == frame.rawValue }?.pfn }.count == 0)
        #expect(Contiguity(dump.table.map).pages == 500)
        _ = try dump.sharedInfo()
    }

    @Test("a file of 8 GiB, sparse: only what is asked for is read")
    func largeFile() throws {
        let count = 2 << 20
        var writer = DumpWriter(.autoTranslated, [])
        writer.notedPages = UInt64(count)
        var (bytes, layout) = writer.write()
        // The pages and their table stand behind each other, far beyond the rest.
        let pages = UInt64(4096 * 16), table = pages + UInt64(count) * 4096
        for (name, offset, size) in [(".xen_pages", pages, count * 4096), (".xen_pfn", table, count * 8)] {
            bytes.put(offset, at: layout.headers[name, default: 0] + 24)
            bytes.put(UInt64(size), at: layout.headers[name, default: 0] + 32)
        }
        let file = TemporaryFile()
        file.write(bytes)
        var entries: [UInt8] = []
        for number in 0..<UInt64(count) { entries.append(number: number + (number >= 1000 ? 1 << 20 : 0)) }
        file.write(entries, at: table)
        file.write(DumpWriter.page(filled: 1_999_999), at: pages + 1_999_999 * 4096)
        let dump = try CoreDump(path: file.path)
        #expect(dump.table.usedCount == UInt64(count) && dump.table.findings.count == 0)
        #expect(dump.table.translate(pfn(999), pages: 5)?.pageCount == 1)
        #expect(dump.table.translate(pfn(1000)) == nil)
        #expect(try dump.contents(of: pfn(1_999_999 + 1 << 20)) == DumpWriter.page(filled: 1_999_999))
        #expect(try dump.contents(of: pfn(3)) == [UInt8](repeating: 0, count: 4096))
    }

    @Test("descriptors and mappings are given back; what is no file is refused")
    func files() throws {
        let file = TemporaryFile()
        file.write(DumpWriter(.paravirtual, [(1, 2)]).write().bytes)
        let before = Descriptor.openCount
        do {
            let dump = try CoreDump(path: file.path)
            #expect(Descriptor.openCount == before + 1 && dump.table.usedCount == 1)
        }
        #expect(Descriptor.openCount == before)
        for (path, words) in [("/nowhere/x", "No such file"), ("/tmp", "directory"), ("/dev/null", "not a regular file")] {
            let error = #expect(throws: DumpError.self) { try CoreDump(path: path) }
            #expect(error?.description.contains(words) == true, "\(String(describing: error))")
        }
        #expect(Descriptor.openCount == before)
    }

    @Test("a file that becomes shorter while it is read: an error, no signal")
    func shrinkingFile() throws {
        let file = TemporaryFile()
        let (bytes, layout) = DumpWriter(.paravirtual, [(1, 2), (2, 9)]).write()
        file.write(bytes)
        let dump = try CoreDump(path: file.path)
        ftruncate(file.descriptor, off_t(layout.offsets[".xen_pages", default: 0] + 100))
        let error = #expect(throws: DumpError.self) { try dump.contents(of: pfn(1)) }
        #expect(error?.description.contains("became shorter") == true)
        // What is known stays known.
        #expect(dump.table.translate(pfn(2))?.frame.rawValue == 9)
    }
}
