import DeviceControl
import DeviceState

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

extension BlockModelStatistics {
    /// What several queues were asked together, as attributes.
    public static func attributes(_ queues: [Self]) -> [DeviceState.Attribute] {
        let numbers: [(String, KeyPath<Self, UInt64>)] = [
            ("requests", \.requests), ("rejected", \.rejected), ("reads", \.reads), ("read-bytes", \.readBytes),
            ("writes", \.writes),
            ("written-bytes", \.writtenBytes), ("flushes", \.flushes), ("discards", \.discards), ("zeroes", \.zeroes),
            ("failed", \.failed),
        ]
        return numbers.enumerated().map { place, number in
            DevicePropertyKey.counter(number.0, queues.reduce(0) { $0 &+ $1[keyPath: number.1] }, place: place)
        }
    }
}
