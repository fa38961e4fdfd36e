// Writes dumps as `xl dump-core` does, and as it never would: for the tests of their reader.

/// A dump to be written. What is not set is as Xen's tools write it.
public struct DumpWriter {
    /// How the domain's memory is known.
    public enum Kind: Sendable { case paravirtual, autoTranslated }
    /// Of this dump.
    public var kind: Kind
    /// pfn and frame of each page, in the file's order; nil for an unused entry. Of an auto-translated domain only the
    /// pfn is written.
    public var entries: [(pfn: UInt64, frame: UInt64)?]
    /// A page's bytes, by its place in the file.
    public var contents: (Int) -> [UInt8]
    /// The page shared with Xen; nil to leave its section out.
    public var sharedInfo: [UInt8]? = [UInt8](repeating: 0, count: 4096)
    /// Virtual processors.
    public var processors: UInt64 = 1
    /// ELF's number for the machine.
    public var machine: UInt16 = 62
    /// ELF's class: 64 bits or, as old tools wrote, 32.
    public var isClass64 = true
    /// Sections in the order of their headers; the rest follows.
    public var headerOrder: [String] = []
    /// Sections in the order of their bytes; the rest follows.
    public var fileOrder: [String] = []
    /// More sections: name and bytes.
    public var more: [(String, [UInt8])] = []
    /// Where the file's first section begins.
    public var firstOffset: UInt64?
    /// Section headers that mean nothing, in front of the others: with many of them their number and the names' place
    /// stand in the first header.
    public var extraHeaders = 0
    /// The domain's number of pages in the notes.
    public var notedPages: UInt64?

    /// A dump of these entries; without `contents` each page tells its place.
    public init(_ kind: Kind, _ entries: [(pfn: UInt64, frame: UInt64)?], contents: ((Int) -> [UInt8])? = nil) {
        self.kind = kind
        self.entries = entries
        self.contents = contents ?? { Self.page(filled: UInt64($0)) }
    }

    /// 4096 bytes that tell which page they are.
    public static func page(filled number: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        for index in 0..<512 { bytes.append(number: number &* 0x9E37_79B9_7F4A_7C15 &+ UInt64(index)) }
        return bytes
    }

    /// Where things are in a file that was written.
    public struct Layout {
        /// Where a section's header is, by name.
        public var headers: [String: Int] = [:]
        /// Where its bytes are.
        public var offsets: [String: Int] = [:]
        /// How many they are.
        public var sizes: [String: Int] = [:]
        /// The notes in order: NONE, HEADER, XEN_VERSION, FORMAT_VERSION.
        public var notes: [Int] = []
    }

    private var tableName: String { kind == .paravirtual ? ".xen_p2m" : ".xen_pfn" }

    private var table: [UInt8] {
        var bytes: [UInt8] = []
        for entry in entries {
            bytes.append(number: entry?.pfn ?? .max)
            if kind == .paravirtual { bytes.append(number: entry?.frame ?? .max) }
        }
        return bytes
    }

    /// The notes, and where each begins.
    private func notes() -> (bytes: [UInt8], places: [Int]) {
        var bytes: [UInt8] = []
        var places: [Int] = []
        func note(_ type: UInt32, _ content: [UInt8]) {
            places.append(bytes.count)
            for word in [4, UInt32(content.count), type, 0x6E6558] as [UInt32] { bytes.append(number: word) }
            bytes += content
        }
        note(0x200_0000, [])
        var header: [UInt8] = []
        header.append(number: kind == .paravirtual ? 0xF00F_EBED : 0xF00F_EBEE as UInt64)
        header.append(number: processors)
        header.append(number: notedPages ?? UInt64(entries.count))
        header.append(number: 4096 as UInt64)
        note(0x200_0001, header)
        var version: [UInt8] = []
        version.append(number: 4 as UInt64)
        version.append(number: 17 as UInt64)
        version += field(".4-pre", 16) + field("gcc", 64) + field("me", 16) + field("here", 32) + field("today", 32)
        version += field("xen-3.0-x86_64 hvm-3.0-x86_64", 1024) + field("unknown", 64)
        version.append(number: 0xFFFF_8000_0000_0000 as UInt64)
        version.append(number: 4096 as UInt64)
        note(0x200_0002, version)
        var format: [UInt8] = []
        format.append(number: 1 as UInt64)
        note(0x200_0003, format)
        return (bytes, places)
    }

    private func field(_ text: String, _ size: Int) -> [UInt8] {
        Array(text.utf8) + [UInt8](repeating: 0, count: size - text.utf8.count)
    }

    /// A section.
    private struct Part {
        var name: String
        var type: UInt32
        var bytes: [UInt8]
        /// Bytes of one of its entries; 0: it has none.
        var entry: Int
        /// Where its name is among the names.
        var nameOffset = 0
    }

    /// The sections in the usual order, the one with their names last.
    private func parts(_ notes: [UInt8]) -> [Part] {
        let state = isClass64 ? 5168 : 2800
        var parts = [
            Part(name: ".note.Xen", type: 7, bytes: notes, entry: 0),
            Part(name: ".xen_prstatus", type: 1, bytes: [UInt8](repeating: 0, count: Int(processors) * state), entry: state),
            Part(name: ".xen_pages", type: 1, bytes: entries.indices.flatMap(contents), entry: 4096),
            Part(name: tableName, type: 1, bytes: table, entry: kind == .paravirtual ? 16 : 8),
        ]
        if let sharedInfo { parts.insert(Part(name: ".xen_shared_info", type: 1, bytes: sharedInfo, entry: 4096), at: 2) }
        parts += more.map { Part(name: $0.0, type: 1, bytes: $0.1, entry: 0) }
        // The table of the names begins with an empty one and its own.
        let own = Part(name: ".shstrtab", type: 3, bytes: [], entry: 0, nameOffset: 1)
        var names = [0] + Array(own.name.utf8) + [0]
        for index in parts.indices {
            parts[index].nameOffset = names.count
            names += Array(parts[index].name.utf8) + [0]
        }
        parts.append(own)
        parts[parts.count - 1].bytes = names
        return parts
    }

    /// The sections' bytes, which begin at `start` in the file, and where each is.
    private func body(_ parts: [Part], at start: Int) -> (bytes: [UInt8], layout: Layout) {
        var order = fileOrder
        order += parts.map(\.name).filter { !order.contains($0) }
        var layout = Layout()
        var body: [UInt8] = []
        for name in order {
            guard let part = parts.first(where: { $0.name == name }) else { continue }
            if name == ".xen_pages", firstOffset == nil {
                body += [UInt8](repeating: 0, count: (4096 - (start + body.count) % 4096) % 4096)
            }
            layout.offsets[name] = start + body.count
            layout.sizes[name] = part.bytes.count
            body += part.bytes
        }
        return (body, layout)
    }

    /// A number of the class's width.
    private func long(_ number: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        if isClass64 { bytes.append(number: UInt64(number)) } else { bytes.append(number: UInt32(number)) }
        return bytes
    }

    /// The file's own header. `namesIndex`: the names' place among the `count` section headers.
    private func fileHeader(count: Int, namesIndex: Int) -> [UInt8] {
        var file: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, isClass64 ? 2 : 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0]
        file.append(number: 4 as UInt16)
        file.append(number: machine)
        file.append(number: 1 as UInt32)
        file += long(0) + long(0) + long(headerSize)
        file.append(number: 0 as UInt32)
        // From 0xff00 on the fields have no room.
        let (few, low) = (count < 0xFF00 ? count : 0, namesIndex < 0xFF00 ? namesIndex : 0xFFFF)
        for number in [headerSize, isClass64 ? 56 : 32, 0, sectionSize, few, low] { file.append(number: UInt16(number)) }
        return file
    }

    private var headerSize: Int { isClass64 ? 64 : 52 }
    private var sectionSize: Int { isClass64 ? 64 : 40 }

    /// The first section header: empty but for what the file's header has no room for.
    private func firstHeader(count: Int, namesIndex: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: isClass64 ? 32 : 20)
        bytes += long(count < 0xFF00 ? 0 : count)
        bytes.append(number: UInt32(namesIndex < 0xFF00 ? 0 : namesIndex))
        return bytes + [UInt8](repeating: 0, count: sectionSize - bytes.count)
    }

    /// A header of a section of another's: its type is a processor's own, its name empty.
    private var extraHeader: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: sectionSize)
        bytes.put(0x7000_0001 as UInt32, at: 4)
        return bytes
    }

    private func sectionHeader(_ part: Part, at offset: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(number: UInt32(part.nameOffset))
        bytes.append(number: part.type)
        bytes += long(0) + long(0) + long(offset) + long(part.bytes.count)
        bytes.append(number: 0 as UInt32)
        bytes.append(number: 0 as UInt32)
        return bytes + long(part.name == ".xen_pages" ? 4096 : 8) + long(part.entry)
    }

    /// The file's bytes, and where everything is.
    public func write() -> (bytes: [UInt8], layout: Layout) {
        let notes = notes()
        let parts = parts(notes.bytes)
        var (body, layout) = body(parts, at: headerSize + sectionSize * (parts.count + 1 + extraHeaders))
        layout.notes = notes.places.map { $0 + (layout.offsets[".note.Xen"] ?? 0) }
        var headers = headerOrder.filter { name in parts.contains { $0.name == name } }
        for name in [".shstrtab"] + parts.map(\.name) where !headers.contains(name) { headers.append(name) }

        let namesIndex = (headers.firstIndex(of: ".shstrtab") ?? 0) + 1 + extraHeaders
        let count = headers.count + 1 + extraHeaders
        var file = fileHeader(count: count, namesIndex: namesIndex) + firstHeader(count: count, namesIndex: namesIndex)
        for _ in 0..<extraHeaders { file += extraHeader }
        for name in headers {
            guard let part = parts.first(where: { $0.name == name }) else { continue }
            layout.headers[name] = file.count
            file += sectionHeader(part, at: layout.offsets[name] ?? 0)
        }
        return (file + body, layout)
    }
}

extension [UInt8] {
    /// Appends a number, little-endian.
    public mutating func append<N: FixedWidthInteger>(number: N) {
        for shift in 0..<N.bitWidth / 8 { append(UInt8(truncatingIfNeeded: number >> (8 * shift))) }
    }
    /// Overwrites bytes with a number.
    public mutating func put<N: FixedWidthInteger>(_ number: N, at place: Int) {
        for shift in 0..<N.bitWidth / 8 { self[place + shift] = UInt8(truncatingIfNeeded: number >> (8 * shift)) }
    }
}
