// The numbers of the NBD protocol, as the reference implementation's doc/proto.md has them. All are in network order on
// the wire.

/// Words that begin a message.
public enum NBDMagic {
    /// A server's first eight bytes: "NBDMAGIC".
    public static let server: UInt64 = 0x4E42_444D_4147_4943
    /// Before every option, and the server's second eight bytes: "IHAVEOPT".
    public static let option: UInt64 = 0x4948_4156_454F_5054
    /// Before every answer to an option.
    public static let optionReply: UInt64 = 0x0003_E889_0455_65A9
    /// Before every request.
    public static let request: UInt32 = 0x2560_9513
    /// Before a simple reply.
    public static let simpleReply: UInt32 = 0x6744_6698
    /// Before a chunk of a structured reply.
    public static let structuredReply: UInt32 = 0x668E_33EF
}

/// What both sides say of the handshake itself.
public struct NBDHandshakeFlags: OptionSet, Sendable {
    /// The bits.
    public let rawValue: UInt32
    /// Flags by their bits.
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// Options are answered, and more may follow one that is refused.
    public static let fixedNewstyle = NBDHandshakeFlags(rawValue: 1)
    /// Without the 124 zeroes at the end of the old way to choose an export.
    public static let noZeroes = NBDHandshakeFlags(rawValue: 2)
}

/// What a client asks for before it has an export.
public enum NBDOption: UInt32, Sendable {
    /// The old way to choose an export, which has no answer but the export or the end.
    case exportName = 1
    /// The client goes.
    case abort = 2
    /// Which exports there are.
    case list = 3
    /// TLS from here on.
    case startTLS = 5
    /// What an export is like.
    case info = 6
    /// The same, and serve it.
    case go = 7
    /// Replies in chunks.
    case structuredReply = 8
    /// Which metadata contexts there are.
    case listMetaContext = 9
    /// Which of them the client wants.
    case setMetaContext = 10
}

/// How a server answers an option.
public enum NBDOptionReply: UInt32, Sendable {
    /// Done.
    case acknowledge = 1
    /// One export.
    case server = 2
    /// A part of what an export is like.
    case info = 3
    /// Not known here.
    case unsupported = 0x8000_0001
    /// Not to be had.
    case policy = 0x8000_0002
    /// Malformed.
    case invalid = 0x8000_0003
    /// No such export.
    case unknown = 0x8000_0006
    /// Longer than this server reads.
    case tooBig = 0x8000_0009
}

/// Parts of what an export is like.
public enum NBDInfo: UInt16, Sendable {
    /// Size and flags.
    case export = 0
    /// Its name.
    case name = 1
    /// A line about it.
    case description = 2
    /// The blocks that clients should use.
    case blockSize = 3
}

/// What an export can do.
public struct NBDTransmissionFlags: OptionSet, Sendable {
    /// The bits.
    public let rawValue: UInt16
    /// Flags by their bits.
    public init(rawValue: UInt16) { self.rawValue = rawValue }
    /// There are flags.
    public static let hasFlags = NBDTransmissionFlags(rawValue: 1)
    /// Nothing can be written.
    public static let readOnly = NBDTransmissionFlags(rawValue: 2)
    /// Flushes are known.
    public static let flush = NBDTransmissionFlags(rawValue: 4)
    /// Writes that are durable by themselves are known.
    public static let durableWrites = NBDTransmissionFlags(rawValue: 8)
    /// Discards are known.
    public static let trim = NBDTransmissionFlags(rawValue: 32)
    /// Zeroes can be written without their bytes.
    public static let writeZeroes = NBDTransmissionFlags(rawValue: 64)
    /// A read can be asked for in one chunk.
    public static let dontFragment = NBDTransmissionFlags(rawValue: 128)
    /// What one connection has flushed every other sees.
    public static let multipleConnections = NBDTransmissionFlags(rawValue: 256)
    /// Zeroes that would have to be written byte by byte can be refused.
    public static let fastZero = NBDTransmissionFlags(rawValue: 2048)
}

/// What a client asks of its export.
public enum NBDCommand: UInt16, Sendable {
    /// Disk to client.
    case read = 0
    /// Client to disk.
    case write = 1
    /// The client goes; there is no reply.
    case disconnect = 2
    /// What was answered before is on stable storage.
    case flush = 3
    /// A range's content is of no more use.
    case trim = 4
    /// A range reads as zeroes.
    case writeZeroes = 6
}

/// How a command is meant.
public struct NBDCommandFlags: OptionSet, Sendable {
    /// The bits.
    public let rawValue: UInt16
    /// Flags by their bits.
    public init(rawValue: UInt16) { self.rawValue = rawValue }
    /// Durable when it is answered.
    public static let durable = NBDCommandFlags(rawValue: 1)
    /// Zeroes keep their place on the disk.
    public static let noHole = NBDCommandFlags(rawValue: 2)
    /// A read in one chunk.
    public static let dontFragment = NBDCommandFlags(rawValue: 4)
    /// Zeroes only if that is quicker than writing them.
    public static let fastZero = NBDCommandFlags(rawValue: 16)
}

/// What a reply says of an error.
public enum NBDError: UInt32, Sendable {
    /// None.
    case none = 0
    /// The export cannot be written.
    case notPermitted = 1
    /// The disk failed.
    case io = 5
    /// The server has no memory for it.
    case noMemory = 12
    /// No such command, flag or range.
    case invalid = 22
    /// Beyond the disk's end.
    case noSpace = 28
    /// More than fits.
    case overflow = 75
    /// Not to be had of this disk.
    case unsupported = 95
    /// The disk is gone.
    case shutDown = 108
}
