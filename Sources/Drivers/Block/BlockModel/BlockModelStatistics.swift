/// What a disk was asked through one queue.
public struct BlockModelStatistics: Sendable, Equatable {
    /// Requests taken.
    public var requests: UInt64 = 0
    /// Requests that were refused before they reached the disk.
    public var rejected: UInt64 = 0
    /// Reads begun.
    public var reads: UInt64 = 0
    /// Bytes that these asked for.
    public var readBytes: UInt64 = 0
    /// Writes begun.
    public var writes: UInt64 = 0
    /// Bytes that these asked for.
    public var writtenBytes: UInt64 = 0
    /// Flushes begun, those of barriers included.
    public var flushes: UInt64 = 0
    /// Discards.
    public var discards: UInt64 = 0
    /// Ranges to be made zero.
    public var zeroes: UInt64 = 0
    /// Requests that the disk failed.
    public var failed: UInt64 = 0

    /// Nothing yet.
    @inlinable public init() {}
}
