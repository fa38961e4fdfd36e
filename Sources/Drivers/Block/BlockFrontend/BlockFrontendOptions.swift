// What a block frontend asks for. Each feature can be switched off, for tests and for backends that get one wrong.

import BlockProtocol

/// What a block frontend asks for; the backend's offer caps each.
public struct BlockFrontendOptions: Sendable {
    /// The layout that the rings are in.
    public var abi: BlockABI = .native
    /// Whether to write the `protocol` node; without it an x86 backend assumes x86_32 (protocol-rules.md 6).
    public var namesABI = true
    /// Queues wanted.
    public var queues = 1
    /// Order of ring pages wanted, 0 to 5.
    public var ringPageOrder: UInt32 = 0
    /// Segments of a request wanted; above 11 needs indirect requests.
    public var segments = 256
    /// Whether the backend may keep grants mapped.
    public var persistentGrants = true
    /// Operations that a queue takes before it says it is full.
    public var depth = 64
    /// Buffer pages of a queue.
    public var bufferPages = 2048
    /// Whether this end may be made to go wrong on purpose: for tests of backends.
    public var takesFaults = false
    /// Gets lines of what is not wrong: that the disk was connected or has another size. nil: the log has them, too.
    public var notes: (@Sendable (String) -> Void)?

    /// The defaults.
    public init() {}
}

/// Why a frontend could not do it.
public enum BlockFrontendError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The handshake failed: what and where.
    case negotiation(String)
    /// The backend did not get there in time: what was waited for.
    case timedOut(String)
    /// The backend broke the protocol; the device is of no more use.
    case backendBroken(String)
    /// The device was taken away.
    case removed
    /// The request lies outside the disk, is misaligned, or does not fit the buffer.
    case badRequest(String)
    /// The backend takes fewer queues than there are, and this one is left over: ask another.
    case displaced

    /// One line.
    public var description: String {
        switch self {
        case .negotiation(let text): text
        case .timedOut(let text): "timed out: \(text)"
        case .backendBroken(let text): "the backend broke the protocol: \(text)"
        case .removed: "the device was removed"
        case .badRequest(let text): text
        case .displaced: "the backend takes fewer queues, and this one is left over"
        }
    }
}

/// What a caller asks of a disk.
public enum BlockCommand: UInt8, Sendable {
    /// Disk to buffer.
    case read
    /// Buffer to disk.
    case write
    /// What was written before and completed is on stable storage.
    case flush
    /// The range's content is of no more use.
    case discard
    /// As discard, and unrecoverable afterwards.
    case secureDiscard
}

/// How an operation ended.
public enum BlockOutcome: UInt8, Sendable {
    /// Done.
    case okay
    /// Failed.
    case failed
    /// The backend does not know the operation.
    case unsupported
    /// The device is gone or broken.
    case lost
    /// The backend takes fewer queues since it returned, and this one is left over: ask again through another. Whether
    /// it was done nobody knows; doing it twice is harmless.
    case displaced
}

/// One operation's end.
public struct BlockCompletion: Sendable {
    /// The caller's own number for it.
    public let tag: UInt64
    /// How it ended.
    public let outcome: BlockOutcome

    @inlinable init(tag: UInt64, outcome: BlockOutcome) {
        self.tag = tag
        self.outcome = outcome
    }
}
