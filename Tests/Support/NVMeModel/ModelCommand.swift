// A command as the model controller has read it from a submission queue.

/// 64 bytes of a submission queue, by the fields that are used.
public struct ModelCommand: Sendable {
    /// The queue that it came by.
    public let queue: Int
    /// What is to be done.
    public let opcode: UInt8
    /// By what its completion names it.
    public let identifier: UInt16
    /// Whose blocks.
    public let namespace: UInt32
    /// Its first page.
    public let prp1: UInt64
    /// Its second page, or its list.
    public let prp2: UInt64
    /// Command dwords 10 to 15.
    public let words: [UInt32]

    init(queue: Int, _ bytes: [UInt8]) {
        func number(_ offset: Int, _ count: Int) -> UInt64 {
            (0..<count).reduce(0) { $0 | UInt64(bytes[offset + $1]) << UInt64($1 * 8) }
        }
        self.queue = queue
        opcode = bytes[0]
        identifier = UInt16(number(2, 2))
        namespace = UInt32(number(4, 4))
        prp1 = number(24, 8)
        prp2 = number(32, 8)
        words = (0..<6).map { UInt32(number(40 + $0 * 4, 4)) }
    }

    /// Whether it is of the I/O command set.
    public var isIO: Bool { queue != 0 }
    /// The first block.
    public var block: UInt64 { UInt64(words[1]) << 32 | UInt64(words[0]) }
    /// Blocks, of a transfer or zeroes.
    public var count: Int { Int(words[2] & 0xFFFF) + 1 }
    /// Whether it is to be durable when it is done.
    public var isForced: Bool { words[2] & 1 << 30 != 0 }
}

/// What becomes of a command.
public enum ModelAction: Sendable {
    /// What it says.
    case perform
    /// Ends with this status, undone.
    case fail(UInt16)
    /// Nothing, until `ModelController.finish`.
    case hold
}
