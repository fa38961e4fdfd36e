// Integers in and out of a message, the least significant byte first.

/// Builds a message.
struct MessageWriter {
    private(set) var bytes: [UInt8] = []

    mutating func put<N: FixedWidthInteger>(_ value: N) {
        for place in 0..<MemoryLayout<N>.size { bytes.append(UInt8(truncatingIfNeeded: value >> N(truncatingIfNeeded: 8 * place))) }
    }
    mutating func put(_ text: String) {
        let utf8 = Array(text.utf8.prefix(512))
        put(UInt16(utf8.count))
        bytes.append(contentsOf: utf8)
    }
}

/// The message is shorter than it says, or longer.
struct MalformedMessage: Error, CustomStringConvertible {
    var description: String { "a message is shorter than it says, or longer" }
}

/// Takes a message apart; never reads beyond its end.
struct MessageReader {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var remaining: Int { bytes.count - position }

    mutating func take<N: FixedWidthInteger>(_ type: N.Type = N.self) throws(MalformedMessage) -> N {
        guard remaining >= MemoryLayout<N>.size else { throw MalformedMessage() }
        var value: N = 0
        for place in 0..<MemoryLayout<N>.size {
            value |= N(truncatingIfNeeded: bytes[position + place]) << N(truncatingIfNeeded: 8 * place)
        }
        position += MemoryLayout<N>.size
        return value
    }
    mutating func takeText() throws(MalformedMessage) -> String {
        let count = Int(try take(UInt16.self))
        guard remaining >= count else { throw MalformedMessage() }
        defer { position += count }
        return String(decoding: bytes[position..<position + count], as: UTF8.self)
    }
    /// A count of items of `size` bytes each, all of which are there.
    mutating func takeCount(of size: Int, atMost most: Int) throws(MalformedMessage) -> Int {
        let count = Int(try take(UInt32.self))
        guard count <= most, remaining >= count * size else { throw MalformedMessage() }
        return count
    }
    func end() throws(MalformedMessage) { if remaining != 0 { throw MalformedMessage() } }
}
