// A disk as the backend drives it. The device side of DMA: it sees bus addresses only.

import DMA
import LinuxSystem
import Reactor

/// What a disk is like. Sizes in bytes unless they say sectors.
public struct BlockGeometry: Equatable, Sendable {
    /// Capacity in bytes; a multiple of `logicalSectorSize`.
    public var byteCount: UInt64
    /// Smallest unit of I/O, a power of two from 512 to 4096.
    public var logicalSectorSize: UInt32
    /// Smallest unit that is written without read-modify-write.
    public var physicalSectorSize: UInt32
    /// Whether writes and discards are refused.
    public var isReadOnly: Bool
    /// nil: the device cannot discard.
    public var discard: DiscardLimits?
    /// nil: the device cannot make a range zero without being given the zeroes.
    public var zeroes: ZeroSupport?
    /// Whether flush does anything (a read-only or null disk may say so and answer at once).
    public var canFlush: Bool
    /// Whether a write can be asked to be durable when it is done, without a flush of all (FUA).
    public var writesDurably = false
    /// Bytes behind the last whole sector, which are out of reach: only after somebody changed the size of an open
    /// disk.
    public var partSector: UInt64 = 0
    /// As given.
    public init(
        byteCount: UInt64, logicalSectorSize: UInt32 = 512, physicalSectorSize: UInt32 = 512, isReadOnly: Bool = false,
        discard: DiscardLimits? = nil, zeroes: ZeroSupport? = nil, canFlush: Bool = true
    ) {
        self.byteCount = byteCount
        self.logicalSectorSize = logicalSectorSize
        self.physicalSectorSize = physicalSectorSize
        self.isReadOnly = isReadOnly
        self.discard = discard
        self.zeroes = zeroes
        self.canFlush = canFlush
    }
}

/// How a disk discards; bytes.
public struct DiscardLimits: Equatable, Sendable {
    /// Smallest range that is really discarded, in bytes.
    public var granularity: UInt32
    /// Where the first such range begins, in bytes.
    public var alignment: UInt32
    /// Whether discarded data can be made unrecoverable.
    public var secure: Bool
    /// Limits as given.
    public init(granularity: UInt32, alignment: UInt32 = 0, secure: Bool = false) {
        self.granularity = granularity
        self.alignment = alignment
        self.secure = secure
    }
}

/// How a disk makes a range zero.
public enum ZeroSupport: Sendable, BitwiseCopyable {
    /// What is zero takes as much room as before.
    case keepsRoom
    /// Where that is allowed, what is zero takes no room.
    case canUnmap
}

/// One operation; offsets and lengths in bytes, already validated against the geometry by the caller.
public enum DeviceOperation: Equatable, Sendable {
    case read(offset: UInt64)
    /// `isDurable`: it is on stable storage when it is done, and what was written before need not be; only where
    /// `writesDurably` says that it can be asked for, or `canFlush` that it is so in any case.
    case write(offset: UInt64, isDurable: Bool = false)
    case flush
    case discard(offset: UInt64, byteCount: UInt64, secure: Bool)
    /// The range reads as zeroes from then on, as if they had been written. `mayUnmap`: it need not keep its room.
    case writeZeroes(offset: UInt64, byteCount: UInt64, mayUnmap: Bool)
}

/// How an operation ended.
public enum DeviceResult: Equatable, Sendable {
    case done
    case failed(Errno)
}

/// Whoever gets the results; called on the queue's reactor thread, never from inside `submit`.
public protocol BlockQueueOwner: AnyObject {
    func deviceCompleted(tag: UInt32, result: DeviceResult)
}

/// One thread's way to a disk.
public protocol BlockDeviceQueue: AnyObject {
    /// Begins an operation. nil: `deviceCompleted` follows; otherwise that was it. The segments' sum is the transfer's
    /// length; a short transfer is continued inside. An address that does not resolve fails with EFAULT and touches
    /// nothing.
    func submit(_ operation: DeviceOperation, tag: UInt32, segments: Span<BusSegment>) -> DeviceResult?
    /// The next `count` operations are a predecessor's, who was killed and has not answered them: what the device has
    /// done of them need not be done again. Said before the first of them.
    func expectRepeats(_ count: Int)
    /// Operations begun and not completed.
    var inFlight: Int { get }
    /// Asks the operations in flight to end early. Each still completes, with ECANCELED where that worked; new ones are
    /// taken as before.
    func cancelAll()
    /// The requests' owner is going: from now on what waits for something that may come back, a server that is away,
    /// ends with ECANCELED instead, unanswered as it is. What is being done is done.
    func endWaiting()
    /// Ends the queue; call when `inFlight` is 0. Called earlier, the owner hears no more of what is in flight, and the
    /// queue ends after it.
    func close()
    /// What it has done so far.
    var statistics: DeviceStatistics { get }
}

extension BlockDeviceQueue {
    /// They are done again.
    public func expectRepeats(_ count: Int) {}
    /// Nothing can be cancelled.
    public func cancelAll() {}
    /// Nothing waits.
    public func endWaiting() {}
    /// Nothing is counted.
    public var statistics: DeviceStatistics { DeviceStatistics() }
}

/// A disk that a backend drives.
public protocol BlockDevice: AnyObject, Sendable {
    /// For messages: the path or URI.
    var name: String { get }
    /// As last read; `refreshGeometry` reads it anew (online resize).
    var geometry: BlockGeometry { get }
    func refreshGeometry() throws(Errno) -> BlockGeometry
    /// On the reactor's thread: a queue that resolves addresses on `bus` and keeps at most `depth` operations in
    /// flight.
    func openQueue(
        on reactor: Reactor, bus: MemoryBus, depth: Int, owner: any BlockQueueOwner
    ) throws(Errno) -> any BlockDeviceQueue
    /// How many queues may be open at once; with more, a flush on one would not cover the others' writes.
    var queueLimit: Int { get }
}

extension BlockDevice {
    /// As many as one likes.
    public var queueLimit: Int { .max }
}
