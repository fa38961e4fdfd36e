// A queue's counters, for status and tests.

import BlockModel
import DMA
import DriverRuntime

/// What a backend queue has done since its connection began.
public struct BackendQueueStatistics: Sendable, Equatable {
    /// Requests taken from the ring.
    public var requests: UInt64 = 0
    /// Reads and their bytes.
    public var reads: UInt64 = 0
    /// Bytes read.
    public var readBytes: UInt64 = 0
    /// Writes.
    public var writes: UInt64 = 0
    /// Bytes written.
    public var writtenBytes: UInt64 = 0
    /// Flushes, those of barriers included.
    public var flushes: UInt64 = 0
    /// Discards.
    public var discards: UInt64 = 0
    /// Requests that were refused before they reached the disk.
    public var rejected: UInt64 = 0
    /// Requests that the disk failed.
    public var failed: UInt64 = 0
    /// Notifications sent to the frontend.
    public var notificationsSent: UInt64 = 0
    /// Notifications taken from it.
    public var notificationsTaken: UInt64 = 0
    /// Of these, those that brought no request.
    public var spurious: UInt64 = 0
    /// Grants mapped, batch or not.
    public var grantsMapped: UInt64 = 0
    /// Of these, those that were mapped for the disk alone.
    public var grantsForDisk: UInt64 = 0
    /// Grants kept mapped now.
    public var persistentGrants = 0
    /// Grants given up to keep within the limit.
    public var evictions: UInt64 = 0
    /// How its pages reached the disk.
    public var memory = DMACounters()
}

extension BackendQueueStatistics {
    /// What a queue's parts have counted.
    init(_ model: BlockModelStatistics, _ transport: borrowing XenBlockTransport, _ doorbell: borrowing Doorbell) {
        requests = model.requests
        reads = model.reads
        readBytes = model.readBytes
        writes = model.writes
        writtenBytes = model.writtenBytes
        flushes = model.flushes
        discards = model.discards
        rejected = model.rejected
        failed = model.failed
        notificationsSent = transport.notificationsSent
        notificationsTaken = doorbell.rings
        spurious = doorbell.spurious
        grantsMapped = transport.grants.mappedCount
        grantsForDisk = transport.grants.passedCount
        persistentGrants = transport.grants.persistent.count
        evictions = transport.grants.persistent.evictions
        memory = DMACounters(transport.dma, unmappable: transport.unmappable, unmapFailures: transport.unmapFailures)
    }
}
