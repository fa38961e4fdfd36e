// What is said before a client has its export: bytes in, bytes out. Knows no socket and no disk.

/// An export, as a client is told of it.
public struct NBDExport: Sendable, Equatable {
    /// By which clients ask for it.
    public var name: String
    /// A line for people.
    public var description: String
    /// Its size.
    public var byteCount: UInt64
    /// What it can do.
    public var flags: NBDTransmissionFlags
    /// The blocks that are best, bytes.
    public var preferredBlock: UInt32
    /// The longest read or write, bytes.
    public var largestTransfer: UInt32

    /// An export.
    public init(
        name: String, description: String, byteCount: UInt64, flags: NBDTransmissionFlags, preferredBlock: UInt32,
        largestTransfer: UInt32
    ) {
        self.name = name
        self.description = description
        self.byteCount = byteCount
        self.flags = flags
        self.preferredBlock = preferredBlock
        self.largestTransfer = largestTransfer
    }
}

/// One client's handshake (fixed newstyle).
public struct NBDHandshake: Sendable {
    /// What the client's bytes came to.
    public enum Event: Sendable, Equatable {
        /// More of them are needed.
        case more
        /// From here on it has the export with this index.
        case serve(Int)
        /// It goes, or makes no sense: why, for whoever looks into it.
        case end(String)
    }

    /// Bytes of an option at most: two names and a list of numbers.
    public static let mostOptionBytes = 16 * 1024
    /// Bytes of answers after which no further option is taken; the last one's go beyond it by less than
    /// `mostOptionBytes`.
    static let mostReplyBytes = 8 * 1024

    /// What a server says first.
    public static var greeting: [UInt8] {
        var writer = BigEndianWriter()
        writer.put(NBDMagic.server)
        writer.put(NBDMagic.option)
        writer.put(UInt16(truncatingIfNeeded: NBDHandshakeFlags([.fixedNewstyle, .noZeroes]).rawValue))
        return writer.bytes
    }

    /// Whether the client understands replies in chunks.
    public private(set) var isStructured = false
    private var flags: NBDHandshakeFlags?

    /// A handshake that has not begun.
    public init() {}

    /// Takes as many whole elements as `input` has, up to the one that chooses an export.
    /// - Parameters:
    ///   - exports: those that there are, the default one first.
    ///   - replies: what is to be sent is put behind it.
    /// - Returns: how many bytes were taken, and what came of them.
    public mutating func take(_ input: [UInt8], _ exports: [NBDExport], replies: inout [UInt8]) -> (taken: Int, event: Event) {
        var reader = BigEndianReader(input)
        if flags == nil {
            guard let bits: UInt32 = reader.take() else { return (0, .more) }
            let said = NBDHandshakeFlags(rawValue: bits)
            guard said.isSubset(of: [.fixedNewstyle, .noZeroes]) else { return (4, .end("handshake flags \(bits)")) }
            flags = said
        }
        while true {
            let start = reader.position
            // Whoever asks for more than is read back is answered as far as there is room, and then again.
            if replies.count > Self.mostReplyBytes { return (start, .more) }
            guard let magic: UInt64 = reader.take(), let number: UInt32 = reader.take(), let count: UInt32 = reader.take() else {
                return (start, .more)
            }
            guard magic == NBDMagic.option else { return (reader.position, .end("no option where one belongs")) }
            guard count <= UInt32(Self.mostOptionBytes) else {
                return (reader.position, .end("an option of \(count) bytes; \(Self.mostOptionBytes) at most"))
            }
            guard let data = reader.take(count: Int(count)) else { return (start, .more) }
            let event = answer(number, data, exports, &replies)
            if event != .more { return (reader.position, event) }
        }
    }

    private mutating func answer(
        _ number: UInt32, _ data: [UInt8], _ exports: [NBDExport], _ replies: inout [UInt8]
    ) -> Event {
        let writer = OptionAnswers(option: number)
        defer { replies += writer.bytes }
        guard let option = NBDOption(rawValue: number) else {
            writer.put(.unsupported)
            return .more
        }
        switch option {
        case .exportName: return choose(data, exports, &replies)
        case .abort:
            writer.put(.acknowledge)
            return .end("the client goes")
        case .list:
            if !data.isEmpty {
                writer.put(.invalid)
                return .more
            }
            for export in exports { writer.put(server: export.name) }
            writer.put(.acknowledge)
            return .more
        case .info, .go:
            guard let asked = Self.infoRequest(data) else {
                writer.put(.invalid)
                return .more
            }
            guard let index = Self.find(asked.name, exports) else {
                writer.put(.unknown)
                return .more
            }
            writer.put(exports[index], asked.wants)
            writer.put(.acknowledge)
            return option == .go ? .serve(index) : .more
        case .structuredReply:
            if data.isEmpty { isStructured = true }
            writer.put(data.isEmpty ? .acknowledge : .invalid)
            return .more
        case .listMetaContext, .setMetaContext:
            // What is allocated is known to the backend, and blkif has no way to ask.
            writer.put(isStructured ? .acknowledge : .invalid)
            return .more
        case .startTLS:
            writer.put(.unsupported)
            return .more
        }
    }

    /// The old way: there is no answer but the export.
    private func choose(_ data: [UInt8], _ exports: [NBDExport], _ replies: inout [UInt8]) -> Event {
        let name = String(decoding: data, as: UTF8.self)
        guard let index = Self.find(name, exports) else { return .end("no export `\(name)`") }
        var writer = BigEndianWriter()
        writer.put(exports[index].byteCount)
        writer.put(exports[index].flags.rawValue)
        if flags?.contains(.noZeroes) != true { writer.bytes += [UInt8](repeating: 0, count: 124) }
        replies += writer.bytes
        return .serve(index)
    }

    /// The empty name is the default export's, too.
    private static func find(_ name: String, _ exports: [NBDExport]) -> Int? {
        exports.firstIndex { $0.name == name } ?? (name.isEmpty && !exports.isEmpty ? 0 : nil)
    }

    /// A name, and what is wanted to be known: nil: malformed.
    private static func infoRequest(_ data: [UInt8]) -> (name: String, wants: Set<UInt16>)? {
        var reader = BigEndianReader(data)
        guard let length: UInt32 = reader.take(), length <= 4096, let name = reader.take(count: Int(length)),
            let count: UInt16 = reader.take()
        else { return nil }
        var wants: Set<UInt16> = []
        for _ in 0..<count {
            guard let one: UInt16 = reader.take() else { return nil }
            wants.insert(one)
        }
        return reader.isAtEnd ? (String(decoding: name, as: UTF8.self), wants) : nil
    }
}
