// A file that `xl dump-core` wrote: header, notes and table are read when it is opened, pages only when they are asked
// for. docs/misc/dump-core-format.txt of Xen; tools/libs/guest/xg_core.c writes it.

import FrameMaps
import LinuxSystem

/// A core dump of a domain. Used from any thread.
public final class CoreDump: Sendable, CustomStringConvertible {
    /// What the file says of itself.
    public let header: DumpHeader
    /// The domain's p2m. Its pages are `.p2m` for a PV domain and `.vp` for an auto-translated one.
    public let table: TableSnapshot

    let file: DumpBytes
    let pages: ElfSection
    /// Where each page is in the file, by pfn.
    let places: PagePlaces
    private let sharedPage: ElfSection?

    /// Opens the file at `path`.
    public convenience init(path: String) throws(DumpError) {
        try self.init(Self.opened { () throws(Errno) in try FileSource(path: path) })
    }

    /// Reads a file that is open, and keeps it so.
    public convenience init(_ descriptor: Descriptor) throws(DumpError) {
        try self.init(Self.opened { () throws(Errno) in try FileSource(descriptor) })
    }

    private static func opened(_ open: () throws(Errno) -> FileSource) throws(DumpError) -> FileSource {
        do { return try open() } catch {
            let text = error == .invalidArgument ? "not a regular file" : "cannot be opened: \(error)"
            throw DumpError(.system(error), "file", at: 0, text)
        }
    }

    /// Reads header, notes and table.
    /// - Parameters:
    ///   - source: the file's bytes.
    ///   - owner: the domain's number, which the file does not have.
    public init(_ source: any ByteSource, owner: UInt16 = TableReading.unknownDomain) throws(DumpError) {
        let file = DumpBytes(source: source)
        self.file = file
        let elf = try ElfFile(file)
        if let section = elf.sections.first(where: { $0.name == ".xen_ia64_mapped_regs" }) {
            throw DumpError(
                .unsupported, section.part, at: section.headerOffset, "a dump of an IA64 domain, which is not read here")
        }
        guard let notes = try elf.section(".note.Xen", ElfSection.note, in: file) else {
            throw DumpError("section headers", at: 0, "no section .note.Xen: not a dump of a Xen domain")
        }
        let header = try XenNotes(notes, file).summary(machine: elf.machine)
        self.header = header
        // What lies beyond the file's end is a finding and no reason not to translate.
        guard let pages = try elf.section(".xen_pages", ElfSection.programBits, in: file, mayBeCut: true) else {
            throw DumpError("section headers", at: 0, "no section .xen_pages")
        }
        self.pages = pages
        let layout = try DumpTable(elf, file, header)
        try layout.checkPages(pages, header)
        var findings = TableFindings()
        sharedPage = Self.optional(&findings) { () throws(DumpError) in
            let section = try elf.section(".xen_shared_info", ElfSection.programBits, in: file)
            if let section, section.size < 4096 {
                throw DumpError(section.part, at: section.offset, "\(section.size) bytes, not 4096")
            }
            return section
        }
        _ = Self.optional(&findings) { () throws(DumpError) in try Self.checkProcessors(elf, file, header) }
        if let missing = layout.missingPages(pages, file.byteCount) { findings.record(missing) }
        var builder = SnapshotBuilder(model: header.mapModel, owner: owner, tableLimit: file.tableLimit)
        let isInRange = builder.isInRange
        var places = PagePlaces()
        var isSurvey = true
        let outcome = try builder.build(entryCount: layout.count, hasHoles: false, findings: findings) {
            (body) throws(DumpError) in
            try layout.scan { index, entry in
                guard let entry else { return }
                // Only the second time: the first is a survey. And only what the map may take: of two entries for a pfn
                // the map has the first that can be believed, and so must this.
                if !isSurvey && isInRange(entry) { places.add(pfn: entry.pfn, page: index) }
                body(index, entry)
            }
            isSurvey = false
        }
        places.sort()
        self.places = places
        switch outcome {
        case .success(let table): self.table = table
        case .failure(let refusal): throw Self.error(refusal, layout, file)
        }
    }

    private static func error(_ refusal: SnapshotBuilder.Refusal, _ layout: DumpTable, _ file: DumpBytes) -> DumpError {
        let (part, offset) = (layout.section.part, layout.section.offset)
        return switch refusal {
        case .tableMemory:
            DumpError(
                .tooLarge, part, at: offset,
                "its entries lie so far apart that they need more than the \(file.tableLimit >> 8) MiB of tables of this file's share"
            )
        case .tooManyOthers:
            DumpError(
                part, at: offset, "more than \(SnapshotBuilder.mostOthers) runs of pages that are not the domain's own")
        case .tooManyConflicts:
            DumpError(part, at: offset, "more than \(SnapshotBuilder.mostConflicts) entries contradict others")
        }
    }

    /// The value, or a finding.
    private static func optional<T>(_ findings: inout TableFindings, _ body: () throws(DumpError) -> T?) -> T? {
        do { return try body() } catch {
            findings.record(.section(error))
            return nil
        }
    }

    /// The processors' states: only their number is checked.
    private static func checkProcessors(
        _ elf: ElfFile, _ file: DumpBytes, _ header: DumpHeader
    ) throws(DumpError) -> Bool? {
        guard let section = try elf.section(".xen_prstatus", ElfSection.programBits, in: file) else {
            throw DumpError("section headers", at: 0, "no section .xen_prstatus")
        }
        let (size, overflow) = section.entrySize.multipliedReportingOverflow(by: header.processors)
        guard !overflow, size == section.size else {
            throw DumpError(
                section.part, at: section.offset,
                "\(section.size) bytes for \(header.processors) processors of \(section.entrySize) bytes each")
        }
        return true
    }

    /// The page that domain and hypervisor share, if the dump has it.
    public func sharedInfo() throws(DumpError) -> SharedInfo? {
        guard let sharedPage else { return nil }
        return SharedInfo(try file.read(4096, at: sharedPage.offset, sharedPage.part), width: header.guestWidth)
    }

    /// `dump of a paravirtual domain: p2m of 65536 pages, …`.
    public var description: String {
        "dump of a\(header.kind == .autoTranslated ? "n" : "") \(header.kind.rawValue) domain: \(table)"
    }
}
