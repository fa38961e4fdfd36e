// Answers to options, and numbers in network order.

/// What answers one option.
final class OptionAnswers {
    private let option: UInt32
    private(set) var bytes: [UInt8] = []

    init(option: UInt32) { self.option = option }

    func put(_ kind: NBDOptionReply) { put(kind, []) }

    /// One export of a list.
    func put(server name: String) {
        var writer = BigEndianWriter()
        writer.put(UInt32(name.utf8.count))
        put(.server, writer.bytes + name.utf8)
    }

    /// What an export is like; what is not asked for is told all the same where clients may rely on it.
    func put(_ export: NBDExport, _ wants: Set<UInt16>) {
        var writer = BigEndianWriter()
        writer.put(NBDInfo.export.rawValue)
        writer.put(export.byteCount)
        writer.put(export.flags.rawValue)
        put(.info, writer.bytes)
        for (info, text) in [(NBDInfo.name, export.name), (.description, export.description)] where wants.contains(info.rawValue) {
            var writer = BigEndianWriter()
            writer.put(info.rawValue)
            put(.info, writer.bytes + text.utf8)
        }
        var sizes = BigEndianWriter()
        sizes.put(NBDInfo.blockSize.rawValue)
        sizes.put(UInt32(1))
        sizes.put(export.preferredBlock)
        sizes.put(export.largestTransfer)
        put(.info, sizes.bytes)
    }

    private func put(_ kind: NBDOptionReply, _ data: [UInt8]) {
        var writer = BigEndianWriter()
        writer.put(NBDMagic.optionReply)
        writer.put(option)
        writer.put(kind.rawValue)
        writer.put(UInt32(data.count))
        bytes += writer.bytes + data
    }
}

/// Integers in network order, one behind the other.
struct BigEndianWriter {
    var bytes: [UInt8] = []

    mutating func put<N: FixedWidthInteger & UnsignedInteger>(_ number: N) {
        for shift in stride(from: N.bitWidth - 8, through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: number >> shift)) }
    }
}

/// The same, read; nil where there are not enough bytes, of which none are taken then.
struct BigEndianReader {
    private let bytes: [UInt8]
    private(set) var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    mutating func take<N: FixedWidthInteger & UnsignedInteger>() -> N? {
        guard let part = take(count: N.bitWidth / 8) else { return nil }
        return part.reduce(0) { $0 << 8 | N($1) }
    }

    mutating func take(count: Int) -> [UInt8]? {
        guard count <= bytes.count - position else { return nil }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }
}
