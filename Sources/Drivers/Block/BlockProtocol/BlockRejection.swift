// Why a request is answered with an error. A rejection is an answer, never the end of anything.

/// A request that breaks the protocol or goes past the disk.
public enum BlockRejection: Error, Equatable, Sendable, CustomStringConvertible {
    /// An operation that has no meaning here, or that was not offered.
    case unsupported(BlockOperationCode)
    /// An indirect request whose inner operation is neither read nor write.
    case innerOperation(BlockOperationCode)
    /// More segments than allowed, or none where some are needed.
    case segmentCount(Int, allowed: Int)
    /// Segment `index` is not a run of sectors within its page.
    case segment(index: Int, first: UInt8, last: UInt8)
    /// The start or a segment's length is no multiple of the disk's own sector.
    case misaligned(sector: UInt64, logicalSectorSize: Int)
    /// `count` sectors from `sector` on are not all on the disk.
    case outOfRange(sector: UInt64, count: UInt64, sectors: UInt64)
    /// A write or discard to a read-only disk.
    case readOnly
    /// Not the peer's fault: its pages cannot be reached now, and can later. Never an answer.
    case noRoom

    /// What the frontend is told: -2 for what it should not ask again, else -1.
    @inlinable public var status: BlockStatus {
        if case .unsupported = self { .unsupported } else { .error }
    }

    /// `8 sectors from 4094 on are not all on a disk of 4096`.
    public var description: String {
        switch self {
        case .unsupported(let code): "\(code) is not supported"
        case .innerOperation(let code): "\(code) inside an indirect request"
        case .segmentCount(let count, let allowed): "\(count) segments where 1 to \(allowed) are allowed"
        case .segment(let index, let first, let last): "segment \(index) has sectors \(first) to \(last)"
        case .misaligned(let sector, let size): "start \(sector) or a segment is not aligned to sectors of \(size) bytes"
        case .outOfRange(let sector, let count, let sectors):
            "\(count) sectors from \(sector) on are not all on a disk of \(sectors)"
        case .readOnly: "the disk is read-only"
        case .noRoom: "its pages cannot be mapped now"
        }
    }
}
