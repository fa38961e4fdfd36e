// Section headers, as many as there are: files with 65280 sections and more have the number in the first header
// (System V ABI, chapter 4: e_shnum 0 with sh_size, SHN_XINDEX with sh_link). Read in pieces, and only what a dump can
// use is kept, so that a file of a million sections takes no more memory than one of ten.

/// What reads them.
struct ElfSections {
    private let file: DumpBytes
    private let wide: Bool
    /// Where the first header is.
    private let start: UInt64
    /// Bytes in a header.
    private let size: Int
    /// Where in the file's header their size, their number and the names' number stand.
    private let fields: UInt64

    /// More sections than any dump has had, by far.
    private static let most: UInt64 = 1 << 20
    /// Bytes of names, 16 for each of the most sections.
    private static let mostNames: UInt64 = 16 << 20
    /// Read at once.
    private static let piece: UInt64 = 1 << 20
    /// What a dump has, or had.
    private static let known: [String] = [
        ".note.Xen", ".xen_prstatus", ".xen_shared_info", ".xen_pages", ".xen_p2m", ".xen_pfn", ".xen_ia64_mapped_regs",
    ]
    /// In `e_shstrndx`: the first header says it (SHN_XINDEX).
    private static let elsewhere = 0xFFFF

    /// The sections of the file that has this header which a dump can use, in the order of their headers.
    static func read(_ file: DumpBytes, _ header: [UInt8], _ wide: Bool) throws(DumpError) -> [ElfSection] {
        let fields = wide ? 58 : 46
        let reader = ElfSections(
            file: file, wide: wide, start: wide ? header.number64(40) : UInt64(header.number32(32)), size: wide ? 64 : 40,
            fields: UInt64(fields))
        let size = Int(header.number16(fields))
        guard size == reader.size else {
            throw DumpError(
                ElfFile.header, at: reader.fields, "section headers of \(size) bytes, not \(reader.size)")
        }
        var count = UInt64(header.number16(fields + 2))
        var names = UInt64(header.number16(fields + 4))
        if reader.start > 0, count == 0 || names == Self.elsewhere {
            let first = try reader.section(0)
            if count == 0 { count = first.size }
            if names == Self.elsewhere { names = UInt64(first.link) }
        }
        try reader.check(count, names)
        return try reader.known(count, names: try reader.names(try reader.section(names)))
    }

    private func check(_ count: UInt64, _ names: UInt64) throws(DumpError) {
        guard count > 0, start > 0 else { throw DumpError(ElfFile.header, at: fields + 2, "no section headers") }
        guard count <= Self.most else {
            throw DumpError(ElfFile.header, at: fields + 2, "\(count) section headers; at most \(Self.most) make sense")
        }
        guard names > 0, names < count else {
            throw DumpError(ElfFile.header, at: fields + 4, "section \(names) of \(count) cannot hold the sections' names")
        }
        guard start <= file.byteCount else {
            throw DumpError("section headers", at: start, "the file ends at \(hexadecimal(file.byteCount))")
        }
        guard count * UInt64(size) <= file.byteCount - start else {
            throw DumpError(
                ElfFile.header, at: fields + 2,
                "\(count) section headers of \(size) bytes at \(hexadecimal(start)), and the file ends at \(hexadecimal(file.byteCount))"
            )
        }
    }

    /// One section's header.
    private func section(_ number: UInt64) throws(DumpError) -> ElfSection {
        let at = start.addingReportingOverflow(number * UInt64(size))
        // What wraps lies beyond any file.
        let bytes = try file.read(size, at: at.overflow ? .max : at.partialValue, "section headers")
        return section(bytes, 0, number)
    }

    private func section(_ bytes: [UInt8], _ at: Int, _ number: UInt64) -> ElfSection {
        func long(_ narrow: Int, _ place: Int) -> UInt64 {
            wide ? bytes.number64(at + place) : UInt64(bytes.number32(at + narrow))
        }
        return ElfSection(
            number: Int(number), nameOffset: bytes.number32(at), type: bytes.number32(at + 4), flags: long(8, 8),
            offset: long(16, 24), size: long(20, 32), link: bytes.number32(at + (wide ? 40 : 24)), entrySize: long(36, 56),
            headerOffset: start + number * UInt64(size))
    }

    /// The bytes of all names.
    private func names(_ table: ElfSection) throws(DumpError) -> [UInt8] {
        guard table.type == ElfSection.stringTable else {
            throw DumpError(
                "section headers", at: table.headerOffset + 4, "section \(table.number) is no string table (type \(table.type))")
        }
        guard table.size <= Self.mostNames else {
            throw DumpError("section names", at: table.headerOffset, "\(table.size) bytes; at most \(Self.mostNames) make sense")
        }
        return try file.read(Int(table.size), at: table.offset, "section names")
    }

    /// Those whose names a dump's sections have.
    private func known(_ count: UInt64, names text: [UInt8]) throws(DumpError) -> [ElfSection] {
        let lastEnd = text.lastIndex(of: 0) ?? -1
        var result: [ElfSection] = []
        var number: UInt64 = 0
        while number < count {
            let part = min(Self.piece / UInt64(size), count - number)
            let bytes = try file.read(Int(part) * size, at: start + number * UInt64(size), "section headers")
            for step in 0..<part {
                var section = section(bytes, Int(step) * size, number + step)
                if section.type == 0 { continue }
                guard Int(section.nameOffset) <= lastEnd else {
                    throw DumpError(
                        "section headers", at: section.headerOffset,
                        "the name of section \(section.number) at \(section.nameOffset) does not end within the \(text.count) bytes of names"
                    )
                }
                guard let name = Self.known.first(where: { text.hasText($0, at: Int(section.nameOffset)) }) else { continue }
                if let first = result.first(where: { $0.name == name }) {
                    throw DumpError(
                        "section headers", at: section.headerOffset,
                        "sections \(first.number) and \(section.number) are both named \(name)")
                }
                section.name = name
                result.append(section)
            }
            number += part
        }
        return result
    }
}

extension [UInt8] {
    /// Whether `text` and a NUL stand at `place`.
    fileprivate func hasText(_ text: String, at place: Int) -> Bool {
        let wanted = text.utf8
        return place <= count - wanted.count - 1 && self[place + wanted.count] == 0
            && self[place..<place + wanted.count].elementsEqual(wanted)
    }
}
