// Messages out of a stream. The socket is asked for exactly what is wanted next, a header or a payload, so that bytes
// and descriptors of two messages never come together: descriptors belong to the message whose header they came with.

import LinuxSystem

/// Puts a front end's messages together, however they are cut.
public struct VhostAssembler {
    /// Bytes of the message in hand.
    private var bytes: [UInt8] = []
    private var descriptors: [Descriptor] = []
    /// Bytes of the header, then of both.
    private var needed = VhostLimits.headerBytes

    /// At the beginning of a message.
    public init() {}

    /// Whether no message has begun.
    var isBetweenMessages: Bool { bytes.isEmpty }
    /// How many bytes to receive next, at most.
    public var wanted: Int { needed - bytes.count }

    /// Takes what was received, at most `wanted` bytes; the message, if that completes one. After an error the stream
    /// has no meaning any more.
    public mutating func take(_ received: [UInt8], _ more: [Descriptor] = []) throws(VhostUserError) -> VhostEnvelope? {
        precondition(received.count <= wanted, "more bytes than were wanted")
        if !more.isEmpty {
            guard bytes.isEmpty, !received.isEmpty, more.count <= VhostLimits.regionsInMessage else { throw .strayDescriptors }
            descriptors = more
        }
        bytes += received
        guard bytes.count == needed else { return nil }
        if bytes.count == VhostLimits.headerBytes {
            let header = try VhostHeader(bytes)
            needed += header.byteCount
            if header.byteCount > 0 { return nil }
        }
        let header = try VhostHeader(bytes)
        let payload = Array(bytes.dropFirst(VhostLimits.headerBytes))
        let own = descriptors
        self = VhostAssembler()
        return VhostEnvelope(
            request: header.request, needsReply: header.needsReply, message: try VhostMessage(header.request, payload, own))
    }
}

/// A message's first twelve bytes, valid.
struct VhostHeader {
    let request: VhostRequest
    let needsReply: Bool
    let byteCount: Int

    private enum Flags {
        static let version: UInt32 = 1
        static let versionMask: UInt32 = 3
        static let reply: UInt32 = 4
        static let needReply: UInt32 = 8
    }

    init(_ bytes: [UInt8]) throws(VhostUserError) {
        var reader = PayloadReader(bytes)
        let (code, flags, size) = (reader.next(UInt32.self), reader.next(UInt32.self), reader.next(UInt32.self))
        guard flags & Flags.versionMask == Flags.version, flags & Flags.reply == 0 else { throw .badHeader(flags: flags) }
        guard size <= VhostLimits.payloadBytes else { throw .tooLong(byteCount: size) }
        guard let request = VhostRequest(rawValue: code) else { throw .unknownRequest(code) }
        self.request = request
        needsReply = flags & Flags.needReply != 0
        byteCount = Int(size)
    }

    /// The header of an answer with a payload of so many bytes.
    static func answer(to request: VhostRequest, byteCount: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.put(request.rawValue)
        bytes.put(Flags.version | Flags.reply)
        bytes.put(UInt32(byteCount))
        return bytes
    }
}

/// What a message is answered with.
public struct VhostAnswer {
    /// The bytes, header included.
    public let bytes: [UInt8]
    /// A descriptor that goes along.
    public let descriptor: Descriptor?

    init(to request: VhostRequest, _ payload: [UInt8], _ descriptor: Descriptor? = nil) {
        bytes = VhostHeader.answer(to: request, byteCount: payload.count) + payload
        self.descriptor = descriptor
    }

    /// One number.
    init(to request: VhostRequest, _ value: UInt64) {
        var payload: [UInt8] = []
        payload.put(value)
        self.init(to: request, payload)
    }
}
