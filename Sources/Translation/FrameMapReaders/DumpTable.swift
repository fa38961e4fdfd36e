// .xen_p2m or .xen_pfn: which page of the domain each page of the file is.

import FrameMaps

struct DumpTable: Sendable {
    let section: ElfSection
    /// Entries.
    let count: UInt64
    /// Bytes in one: pairs of pfn and machine frame, or pfns.
    let entrySize: UInt64
    private let file: DumpBytes

    /// What stands in an entry that is not in use.
    static let unused = UInt64.max
    /// Read at once: 64 Ki entries or more.
    private static let chunk: UInt64 = 1 << 20

    init(_ elf: ElfFile, _ file: DumpBytes, _ header: DumpHeader) throws(DumpError) {
        self.file = file
        let pairs = try elf.section(".xen_p2m", ElfSection.programBits, in: file)
        let numbers = try elf.section(".xen_pfn", ElfSection.programBits, in: file)
        if let pairs, let numbers {
            throw DumpError(
                "section headers", at: numbers.headerOffset, "both \(pairs.name) and \(numbers.name); a domain has one of them")
        }
        guard let section = pairs ?? numbers else {
            throw DumpError("section headers", at: 0, "neither a section .xen_p2m nor .xen_pfn; the file may be cut short")
        }
        guard (header.kind == .paravirtual) == (pairs != nil) else {
            throw DumpError(
                section.part, at: section.headerOffset,
                "a table of the other kind than the \(header.kind.rawValue) domain's that the notes name")
        }
        entrySize = pairs != nil ? 16 : 8
        guard section.entrySize == entrySize else {
            throw DumpError(section.part, at: section.headerOffset, "entries of \(section.entrySize) bytes, not \(entrySize)")
        }
        guard section.size % entrySize == 0 else {
            throw DumpError(
                section.part, at: section.offset, "\(section.size) bytes are no whole number of \(entrySize)-byte entries")
        }
        count = section.size / entrySize
        guard count == header.pages else {
            throw DumpError(section.part, at: section.offset, "\(count) entries for the \(header.pages) pages that the notes name")
        }
        self.section = section
    }

    /// The pages' section has a page for each entry.
    func checkPages(_ pages: ElfSection, _ header: DumpHeader) throws(DumpError) {
        let (size, overflow) = header.pages.multipliedReportingOverflow(by: header.pageSize)
        guard !overflow, size == pages.size else {
            throw DumpError(pages.part, at: pages.offset, "\(pages.size) bytes for \(header.pages) pages of \(header.pageSize)")
        }
        guard pages.entrySize == header.pageSize else {
            throw DumpError(pages.part, at: pages.headerOffset, "entries of \(pages.entrySize) bytes, not \(header.pageSize)")
        }
    }

    /// What of the pages the file does not reach to.
    func missingPages(_ pages: ElfSection, _ fileSize: UInt64) -> TableFinding? {
        // The section was seen not to wrap.
        let there = fileSize > pages.offset ? min((fileSize - pages.offset) / 4096, count) : 0
        guard there < count else { return nil }
        return .contentsMissing(firstEntry: there, count: count - there, offset: pages.offset + there * 4096)
    }

    /// Calls `body` for every entry, nil for one that is not in use. Reads the table once, in pieces.
    func scan(_ body: (UInt64, TableEntry?) -> Void) throws(DumpError) {
        var index: UInt64 = 0
        var offset: UInt64 = 0
        while offset < section.size {
            let bytes = try file.read(Int(min(Self.chunk, section.size - offset)), at: section.offset + offset, section.part)
            var place = 0
            while place < bytes.count {
                let pfn = bytes.number64(place)
                let frame = entrySize == 16 ? bytes.number64(place + 8) : pfn
                // An entry with either half unused names no page.
                body(index, pfn == Self.unused || frame == Self.unused ? nil : TableEntry(pfn: pfn, frame: frame))
                index += 1
                place += Int(entrySize)
            }
            offset += UInt64(bytes.count)
        }
    }
}
