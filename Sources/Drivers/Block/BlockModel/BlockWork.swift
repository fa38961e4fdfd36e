// What a connector asks of a disk, in the disk's own terms: no ring, grant or descriptor is in it.

import BlockDevices

/// One request as a disk understands it. Its transport has validated it: the model does not look again.
public struct BlockWork: Sendable, Equatable {
    /// What is done; offsets and lengths in bytes.
    public var operation: DeviceOperation
    /// What comes before and after it.
    public var ordering: WorkOrdering
    /// Bytes of data that a read or write moves; 0 for the others.
    public var byteCount: UInt64

    /// The work of one request.
    @inlinable
    public init(_ operation: DeviceOperation, ordering: WorkOrdering = .none, byteCount: UInt64 = 0) {
        self.operation = operation
        self.ordering = ordering
        self.byteCount = byteCount
    }
}

/// How a request ended, to be said in the transport's own words.
public enum WorkOutcome: Sendable, BitwiseCopyable {
    /// It is done; a flush or barrier is on stable storage.
    case done
    /// The disk, or the way to its data, failed.
    case failed
    /// The disk does not know the operation, whatever was offered.
    case unsupported
}

/// Operations that a disk may turn out not to know after they were offered.
public struct OptionalOperations: OptionSet, Sendable, BitwiseCopyable {
    /// The bits; this library's own.
    public let rawValue: UInt8
    /// Takes any bits.
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// Flushes, and the barriers that need them.
    @inlinable public static var flush: Self { Self(rawValue: 1) }
    /// Discards.
    @inlinable public static var discard: Self { Self(rawValue: 2) }
    /// Ranges that become zero.
    @inlinable public static var zeroes: Self { Self(rawValue: 4) }
}
