// What a disk on a bus is asked for, and how that ends.

import VirtioBus
import VirtioWire

/// One operation of a disk. Offsets and counts are bytes, and whole sectors of 512.
public enum BusDiskOperation: Sendable {
    /// Reads at most `BusDisk.largestTransfer` bytes.
    case read(at: UInt64, byteCount: Int)
    /// Writes at most as many.
    case write(at: UInt64, [UInt8])
    /// What was written, and had ended, is to be durable.
    case flush
    /// The range's content is not needed any more; a hint.
    case discard(at: UInt64, byteCount: UInt64)
    /// The range is to be zero; its room may be given back where that is said.
    case writeZeroes(at: UInt64, byteCount: UInt64, mayUnmap: Bool)
}

/// Why an operation of a disk did not succeed.
public enum BusDiskError: Error, Equatable, CustomStringConvertible {
    /// The disk failed; its own log says why.
    case failed(disk: String)
    /// The disk does not know the operation.
    case unsupported(disk: String)
    /// The disk is gone, or the connection was closed; why. Whether a write was done is not known.
    case lost(disk: String, reason: String)
    /// An offset or a count that cannot be.
    case refused(disk: String, String)

    /// In one line.
    public var description: String {
        switch self {
        case .failed(let disk): "\(disk): the operation failed"
        case .unsupported(let disk): "\(disk): the disk does not know the operation"
        case .lost(let disk, let reason): "\(disk): lost: \(reason)"
        case .refused(let disk, let words): "\(disk): \(words)"
        }
    }
}

/// How a disk is to be used.
public struct BusDiskOptions: Sendable {
    /// Operations at a time, 1 to 256.
    public var depth: Int
    /// Bytes of one read or write at most, whole sectors, 512 to 1 MiB.
    public var transferBytes: Int

    /// Options.
    public init(depth: Int = 32, transferBytes: Int = 64 << 10) {
        self.depth = depth
        self.transferBytes = transferBytes
    }
}
