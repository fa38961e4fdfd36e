// Cuts a byte stream into messages, however it was split or merged on the way. No I/O here.

/// A stream that cannot be a store connection: its length field names more than a message may hold.
public struct StoreProtocolViolation: Error, Hashable, Sendable, CustomStringConvertible {
    /// The length that the header claims, in bytes.
    public let length: UInt32
    /// One clause.
    public var description: String { "a message of \(length) bytes, more than \(StoreWire.payloadMax)" }
}

/// An incremental parser; after a violation the stream has no more message boundaries and must be dropped.
public struct StoreMessageParser: Sendable {
    private var buffer: [UInt8] = []
    private var start = 0

    /// An empty parser.
    public init() {}

    /// Bytes taken in and not yet returned as a message.
    public var bufferedCount: Int { buffer.count - start }

    /// Takes in what arrived.
    public mutating func append(_ bytes: some Collection<UInt8>) {
        if start > 0 {
            buffer.removeFirst(start)
            start = 0
        }
        buffer += bytes
    }

    /// The next whole message, nil when more bytes are needed. The length is judged as soon as the header is there, so
    /// that nothing is ever gathered for a message that would be refused (attacks.md XS1, XS21).
    public mutating func next() throws(StoreProtocolViolation) -> StoreMessage? {
        guard bufferedCount >= StoreWire.headerSize else { return nil }
        let length = word(3)
        guard length <= UInt32(StoreWire.payloadMax) else { throw StoreProtocolViolation(length: length) }
        let total = StoreWire.headerSize + Int(length)
        guard bufferedCount >= total else { return nil }
        let message = StoreMessage(
            rawType: word(0), request: word(1), transaction: word(2),
            payload: Array(buffer[start + StoreWire.headerSize..<start + total]))
        start += total
        if start == buffer.count {
            buffer.removeAll(keepingCapacity: buffer.capacity <= 16384)
            start = 0
        }
        return message
    }

    /// Whether `next` would return or throw: a whole message or a bad header is there.
    public var isReady: Bool {
        guard bufferedCount >= StoreWire.headerSize else { return false }
        let length = word(3)
        return length > UInt32(StoreWire.payloadMax) || bufferedCount >= StoreWire.headerSize + Int(length)
    }

    private func word(_ index: Int) -> UInt32 {
        var value: UInt32 = 0
        for byte in 0..<4 { value |= UInt32(buffer[start + index * 4 + byte]) << UInt32(byte * 8) }
        return UInt32(littleEndian: value)
    }
}
