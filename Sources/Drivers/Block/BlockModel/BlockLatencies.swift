// How long a disk's requests took, by what they asked for.

import BlockDevices
import DeviceControl
import Synchronization

/// What a request asks for, as far as times are kept apart.
public enum BlockLatencyKind: Int, CaseIterable, Sendable {
    /// Data from the disk.
    case read
    /// Data to it.
    case write
    /// That what was written is on stable storage.
    case flush
    /// A discard, or a range to be made zero.
    case discard

    @inlinable
    init(_ operation: DeviceOperation) {
        self =
            switch operation {
            case .read: .read
            case .write: .write
            case .flush: .flush
            case .discard, .writeZeroes: .discard
            }
    }
}

/// Times of requests from when they were taken from the driver to when they were answered, in nanoseconds.
public struct BlockLatencies: Sendable, Equatable {
    private var histograms = Array(repeating: LatencyHistogram(), count: BlockLatencyKind.allCases.count)

    /// Nothing yet.
    public init() {}

    /// The times of one kind.
    public subscript(kind: BlockLatencyKind) -> LatencyHistogram {
        get { histograms[kind.rawValue] }
        set { histograms[kind.rawValue] = newValue }
    }

    /// Those of both.
    public static func + (left: Self, right: Self) -> Self {
        var sum = left
        for kind in BlockLatencyKind.allCases { sum[kind] = left[kind] + right[kind] }
        return sum
    }

    mutating func record(_ kind: BlockLatencyKind, _ duration: UInt64, weight: UInt64) {
        histograms[kind.rawValue].record(duration, weight: weight)
    }
}

/// One queue's times: written on its thread, read from any.
public final class BlockLatencyRecord: Sendable {
    private let latencies = Mutex(BlockLatencies())

    /// Nothing yet.
    public init() {}

    /// As of now.
    public var value: BlockLatencies { latencies.withLock { $0 } }

    func record(_ kind: BlockLatencyKind, _ duration: UInt64, weight: UInt32) {
        latencies.withLock { $0.record(kind, duration, weight: UInt64(weight)) }
    }
}
