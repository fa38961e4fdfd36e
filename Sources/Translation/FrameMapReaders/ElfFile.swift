// The part of ELF that a dump uses: a header and sections, found by name. Both classes are read: tools of 64 bits write
// class 64 whatever the guest is, tools of 32 bits wrote class 32. Nothing is taken on trust: every size and offset is
// checked before it is used, in sums that cannot wrap. System V ABI, chapters 4 and 5.

/// A section of an ELF file.
struct ElfSection: Sendable {
    /// Its number among the section headers.
    let number: Int
    var name = ""
    let nameOffset: UInt32
    let type: UInt32
    let flags: UInt64
    /// Where its bytes begin in the file.
    let offset: UInt64
    let size: UInt64
    /// Of the first header: the number of the one with the names, if that is large.
    let link: UInt32
    let entrySize: UInt64
    /// Where its header is in the file.
    let headerOffset: UInt64

    static let stringTable: UInt32 = 3
    static let programBits: UInt32 = 1
    static let note: UInt32 = 7
    static let compressed: UInt64 = 1 << 11
    /// For messages.
    var part: String { "section \(name)" }
}

/// An ELF core file's header and sections.
struct ElfFile: Sendable {
    let machine: UInt16
    let isClass64: Bool
    /// Those that a dump can use.
    let sections: [ElfSection]

    static let i386: UInt16 = 3
    static let arm: UInt16 = 40
    static let ia64: UInt16 = 50
    static let x86_64: UInt16 = 62
    static let arm64: UInt16 = 183
    /// The magic number of a PV dump, which the oldest dumps began with.
    static let ancientMagic: UInt32 = 0xF00F_EBED
    static let header = "ELF header"

    init(_ file: DumpBytes) throws(DumpError) {
        let ident = try file.read(Int(min(UInt64(ForeignFormat.startSize), file.byteCount)), at: 0, Self.header)
        if ident.count >= 4, [Self.ancientMagic, Self.ancientMagic + 1].contains(ident.number32(0)) {
            throw DumpError(
                .unsupported, Self.header, at: 0, "a dump in the format before ELF (Xen 3.0); take it anew with xl dump-core")
        }
        guard ident.count >= 4, ident[0..<4] == [0x7F, 0x45, 0x4C, 0x46] else {
            if let name = ForeignFormat.name(ident) { throw Self.foreign(name) }
            throw DumpError(Self.header, at: 0, ident.isEmpty ? "the file is empty" : "not an ELF file")
        }
        guard ident.count == 16 else { throw DumpError(Self.header, at: 0, "the file ends within it") }
        guard ident[4] == 1 || ident[4] == 2 else {
            throw DumpError(Self.header, at: 4, "class \(ident[4]) is neither 32-bit (1) nor 64-bit (2)")
        }
        isClass64 = ident[4] == 2
        if ident[5] == 2 { throw DumpError(.unsupported, Self.header, at: 5, "big-endian; Xen's dumps are little-endian") }
        guard ident[5] == 1 else { throw DumpError(Self.header, at: 5, "byte order \(ident[5]) is neither little (1) nor big (2)") }
        guard ident[6] == 1 else { throw DumpError(.unsupported, Self.header, at: 6, "ELF version \(ident[6]), not 1") }
        let bytes = try file.read(isClass64 ? 64 : 52, at: 0, Self.header)
        guard bytes.number16(16) == 4 else {
            throw DumpError(.unsupported, Self.header, at: 16, "type \(bytes.number16(16)) is no core file (4)")
        }
        if let name = ForeignFormat.core(file, bytes, isClass64) { throw Self.foreign(name) }
        machine = bytes.number16(18)
        if machine == Self.ia64 {
            throw DumpError(.unsupported, Self.header, at: 18, "a dump of an IA64 domain, which is not read here")
        }
        guard [Self.i386, Self.x86_64, Self.arm, Self.arm64].contains(machine) else {
            throw DumpError(.unsupported, Self.header, at: 18, "machine \(machine) is neither x86 nor Arm")
        }
        sections = try ElfSections.read(file, bytes, isClass64)
    }

    /// Not what is read here, but known.
    private static func foreign(_ name: String) -> DumpError {
        DumpError(.unsupported, header, at: 0, "this is \(name); what is read here is what xl dump-core writes")
    }

    /// The section of that name, its bytes within the file unless `mayBeCut`.
    func section(_ name: String, _ type: UInt32, in file: DumpBytes, mayBeCut: Bool = false) throws(DumpError) -> ElfSection? {
        guard let section = sections.first(where: { $0.name == name && $0.type != 0 }) else { return nil }
        guard section.type == type else {
            throw DumpError(section.part, at: section.headerOffset + 4, "section type \(section.type), not \(type)")
        }
        if section.flags & ElfSection.compressed != 0 {
            throw DumpError(.unsupported, section.part, at: section.headerOffset + 8, "compressed")
        }
        let (end, wraps) = section.offset.addingReportingOverflow(section.size)
        if wraps || end > file.byteCount && !mayBeCut {
            throw DumpError(
                section.part, at: section.offset,
                "its \(section.size) bytes end beyond the file's \(file.byteCount); the file is cut short or the header wrong")
        }
        return section
    }
}
