// The notes in .note.Xen: what made the dump, of what kind of domain, how many pages of which size.
// xen/include/public/elfnote.h and docs/misc/dump-core-format.txt.

import FrameMaps

/// What a dump says of itself.
public struct DumpHeader: Hashable, Sendable {
    /// How the domain's memory was known.
    public enum Kind: String, Sendable {
        /// Paravirtual: the dump has pfn and machine frame of each page.
        case paravirtual
        /// Auto-translated (HVM, PVH, Arm): the dump has frame numbers of the domain, which are the same for it and for
        /// the hypervisor.
        case autoTranslated = "auto-translated"
    }
    /// Of what kind of domain the dump is.
    public var kind: Kind
    /// Virtual processors.
    public var processors: UInt64
    /// Pages there is room for in the file: the domain's pages when the dump began.
    public var pages: UInt64
    /// Bytes in a page: 4096.
    public var pageSize: UInt64
    /// The hypervisor, such as `4.17.4-pre`; nil if the dump does not say.
    public var xenVersion: String?
    /// What the hypervisor could run, such as `xen-3.0-x86_64 hvm-3.0-x86_64`.
    public var capabilities: String?
    /// The format's version before the point: only 0.1 exists.
    public var formatMajor: UInt32
    /// And after it.
    public var formatMinor: UInt32
    /// Bytes in a word of the guest, which decides its shared page's layout: 4 or 8.
    public var guestWidth: Int
    /// ELF's number for the machine: 62 is x86-64, 3 x86-32, 40 Arm.
    public var machine: UInt16

    /// How the dump's frame map knows its pages.
    var mapModel: MemoryModel { kind == .paravirtual ? .p2m : .vp }
}

struct XenNotes {
    static let base: UInt32 = 0x200_0000
    static let paravirtualMagic: UInt64 = 0xF00F_EBED
    static let translatedMagic: UInt64 = 0xF00F_EBEE
    /// The notes of a real dump are 1384 bytes.
    static let mostBytes: UInt64 = 1 << 16

    private var isDump = false
    private var header: (magic: UInt64, processors: UInt64, pages: UInt64, pageSize: UInt64, at: UInt64)?
    private var format: (major: UInt32, minor: UInt32, at: UInt64)?
    private var version: String?
    private var capabilities: String?
    private let section: ElfSection

    init(_ section: ElfSection, _ file: DumpBytes) throws(DumpError) {
        self.section = section
        guard section.size <= Self.mostBytes else {
            throw DumpError(
                section.part, at: section.offset, "\(section.size) bytes of notes; at most \(Self.mostBytes) make sense")
        }
        let bytes = try file.read(Int(section.size), at: section.offset, section.part)
        var place = 0
        while place < bytes.count {
            let at = section.offset + UInt64(place)
            guard bytes.count - place >= 12 else {
                throw DumpError(section.part, at: at, "\(bytes.count - place) bytes are left, too few for a note")
            }
            let (nameSize, size) = (Int(bytes.number32(place)), Int(bytes.number32(place + 4)))
            let type = bytes.number32(place + 8)
            // Sizes of 32 bits in numbers of 64: no sum wraps. Both parts are filled up to a multiple of 4.
            let start = place + 12 + (nameSize + 3) & ~3
            let end = start + (size + 3) & ~3
            guard start + size <= bytes.count, start <= bytes.count else {
                throw DumpError(
                    section.part, at: at,
                    "a note of \(nameSize) and \(size) bytes does not fit in the \(bytes.count - place) that are left")
            }
            if nameSize == 4, Array(bytes[place + 12..<place + 16]) == [0x58, 0x65, 0x6E, 0] {
                try take(type, Array(bytes[start..<start + size]), at)
            }
            place = end
        }
    }

    private mutating func take(_ type: UInt32, _ content: [UInt8], _ at: UInt64) throws(DumpError) {
        func need(_ count: Int, _ name: String) throws(DumpError) {
            guard content.count >= count else {
                throw DumpError(section.part, at: at, "note \(name) has \(content.count) bytes, not \(count)")
            }
        }
        switch type {
        case Self.base: isDump = true
        case Self.base + 1:
            try need(32, "HEADER")
            if header != nil { throw DumpError(section.part, at: at, "a second note HEADER") }
            header = (content.number64(0), content.number64(8), content.number64(16), content.number64(24), at)
        case Self.base + 2:
            // Everything before the two words at the end, whose places depend on the guest's width.
            try need(16 + 16 + 144 + 1024, "XEN_VERSION")
            version = "\(content.number64(0)).\(content.number64(8))\(content.field(16, 16))"
            capabilities = content.field(176, 1024)
        case Self.base + 3:
            try need(8, "FORMAT_VERSION")
            format = (content.number32(4), content.number32(0), at)
        default: break
        }
    }

    /// What the notes say together; an error names what is missing.
    func summary(machine: UInt16) throws(DumpError) -> DumpHeader {
        guard isDump, let header else {
            throw DumpError(section.part, at: section.offset, isDump ? "no note HEADER" : "no note that marks a Xen dump")
        }
        guard let format else { throw DumpError(section.part, at: section.offset, "no note FORMAT_VERSION") }
        guard format.major == 0 else {
            throw DumpError(
                .unsupported, section.part, at: format.at, "format version \(format.major).\(format.minor); 0.1 is read here")
        }
        guard header.magic == Self.paravirtualMagic || header.magic == Self.translatedMagic else {
            throw DumpError(section.part, at: header.at, "note HEADER: magic number \(hexadecimal(header.magic))")
        }
        guard header.pageSize == 4096 else {
            throw DumpError(.unsupported, section.part, at: header.at, "pages of \(header.pageSize) bytes; 4096 is read here")
        }
        return DumpHeader(
            kind: header.magic == Self.paravirtualMagic ? .paravirtual : .autoTranslated, processors: header.processors,
            pages: header.pages, pageSize: header.pageSize, xenVersion: version, capabilities: capabilities,
            formatMajor: format.major, formatMinor: format.minor,
            guestWidth: machine == ElfFile.i386 ? 4 : 8, machine: machine)
    }
}
