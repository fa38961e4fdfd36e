// Writes dumps as `xl dump-core` does, and as it never would: for the tests of their reader.

/// A dump to be written. What is not set is as Xen's tools write it.
public struct DumpWriter {
    /// How the domain's memory is known.
    public enum Kind: Sendable { case paravirtual, autoTranslated }
    /// Of this dump.
    public var kind: Kind
    /// pfn and frame of each page, in the file's order; nil for an unused entry. Of an auto-translated domain only the pfn is written.
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

    /// The file's bytes, and where everything is.
    public func write() -> (bytes: [UInt8], layout: Layout) {
        let notes = notes()
        let state = isClass64 ? 5168 : 2800
        var parts: [(name: String, type: UInt32, bytes: [UInt8], entry: Int)] = [
            (".note.Xen", 7, notes.bytes, 0),
            (".xen_prstatus", 1, [UInt8](repeating: 0, count: Int(processors) * state), state),
            (".xen_pages", 1, entries.indices.flatMap(contents), 4096),
            (tableName, 1, table, kind == .paravirtual ? 16 : 8),
        ]
        if let sharedInfo { parts.insert((".xen_shared_info", 1, sharedInfo, 4096), at: 2) }
        parts += more.map { ($0.0, 1, $0.1, 0) }
        let names = [".shstrtab"] + parts.map(\.name)
        var strings: [UInt8] = [0]
        var nameOffsets: [String: Int] = [:]
        for name in names {
            nameOffsets[name] = strings.count
            strings += Array(name.utf8) + [0]
        }
        parts.append((".shstrtab", 3, strings, 0))

        let (headerSize, sectionSize) = isClass64 ? (64, 64) : (52, 40)
        var order = fileOrder
        order += parts.map(\.name).filter { !order.contains($0) }
        var layout = Layout()
        var body: [UInt8] = []
        let start = headerSize + sectionSize * (parts.count + 1)
        for name in order {
            guard let part = parts.first(where: { $0.name == name }) else { continue }
            if name == ".xen_pages", firstOffset == nil {
                body += [UInt8](repeating: 0, count: (4096 - (start + body.count) % 4096) % 4096)
            }
            layout.offsets[name] = start + body.count
            layout.sizes[name] = part.bytes.count
            body += part.bytes
        }
        layout.notes = notes.places.map { $0 + (layout.offsets[".note.Xen"] ?? 0) }
        var headers = headerOrder.filter { name in parts.contains { $0.name == name } }
        for name in [".shstrtab"] + parts.map(\.name) where !headers.contains(name) { headers.append(name) }

        var file: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, isClass64 ? 2 : 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0]
        func long(_ number: Int) {
            if isClass64 { file.append(number: UInt64(number)) } else { file.append(number: UInt32(number)) }
        }
        file.append(number: 4 as UInt16)
        file.append(number: machine)
        file.append(number: 1 as UInt32)
        long(0)
        long(0)
        long(headerSize)
        file.append(number: 0 as UInt32)
        let index = (headers.firstIndex(of: ".shstrtab") ?? 0) + 1
        for number in [headerSize, isClass64 ? 56 : 32, 0, sectionSize, headers.count + 1, index] {
            file.append(number: UInt16(number))
        }
        file += [UInt8](repeating: 0, count: sectionSize)
        for name in headers {
            guard let part = parts.first(where: { $0.name == name }) else { continue }
            layout.headers[name] = file.count
            file.append(number: UInt32(nameOffsets[name] ?? 0))
            file.append(number: part.type)
            long(0)
            long(0)
            long(layout.offsets[name] ?? 0)
            long(part.bytes.count)
            file.append(number: 0 as UInt32)
            file.append(number: 0 as UInt32)
            long(name == ".xen_pages" ? 4096 : 8)
            long(part.entry)
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
