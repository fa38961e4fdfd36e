// What a queue has done.

/// Counters of one queue since it was opened; read on its thread.
public struct DeviceStatistics: Equatable, Sendable, CustomStringConvertible {
    /// Operations begun, of whatever kind, refused ones too.
    public var submitted: UInt64 = 0
    /// Operations that succeeded, by kind.
    public var reads: UInt64 = 0
    /// Writes that ended well.
    public var writes: UInt64 = 0
    /// Flushes that succeeded, those with nothing to do among them.
    public var flushes: UInt64 = 0
    /// Discards that succeeded.
    public var discards: UInt64 = 0
    /// Ranges that were made zero.
    public var zeroes: UInt64 = 0
    /// Bytes moved by those that succeeded.
    public var bytesRead: UInt64 = 0
    /// Bytes written by those that succeeded.
    public var bytesWritten: UInt64 = 0
    /// Operations that failed, addresses that did not resolve among them.
    public var errors: UInt64 = 0
    /// Transfers that went through an aligned buffer.
    public var bounced: UInt64 = 0
    /// Short transfers that were continued.
    public var continued: UInt64 = 0

    /// All zero.
    public init() {}

    /// `12 reads, 3 writes, …`.
    public var description: String {
        "\(reads) reads (\(bytesRead) bytes), \(writes) writes (\(bytesWritten) bytes), \(flushes) flushes, \(discards) discards, \(zeroes) of zeroes, "
            + "\(errors) errors, \(bounced) bounced, \(continued) continued"
    }

    /// Counts an operation that ended.
    package mutating func count(_ operation: DeviceOperation, byteCount: UInt64, _ result: DeviceResult) {
        if case .failed = result {
            errors &+= 1
            return
        }
        switch operation {
        case .read:
            reads &+= 1
            bytesRead &+= byteCount
        case .write:
            writes &+= 1
            bytesWritten &+= byteCount
        case .flush: flushes &+= 1
        case .discard: discards &+= 1
        case .writeZeroes: zeroes &+= 1
        }
    }
}
