// What one queue has done.

import DMA

/// Counters of one queue of a vif; frames and bytes from the frontend's point of view.
public struct NetworkQueueStatistics: Sendable, Equatable {
    /// Frames that the frontend sent and the device took.
    public var transmitted: UInt64 = 0
    /// Their bytes.
    public var transmittedBytes: UInt64 = 0
    /// Frames answered with an error, and those dropped because the device refused them.
    public var transmitErrors: UInt64 = 0
    /// Packets that the device did not take.
    public var transmitDropped: UInt64 = 0
    /// Frames put before the frontend.
    public var received: UInt64 = 0
    /// Their bytes.
    public var receivedBytes: UInt64 = 0
    /// Frames of the device's that the frontend could not take, did not want, or was too late for.
    public var receiveDropped: UInt64 = 0
    /// Of these, dropped while it posted no pages.
    public var receiveExpired: UInt64 = 0
    /// Frames whose pages were mapped, and frames that the hypervisor copied.
    public var mappedFrames: UInt64 = 0
    /// Frames that the hypervisor copied.
    public var copiedFrames: UInt64 = 0
    /// Notifications sent to the other side.
    public var notificationsSent: UInt64 = 0
    /// Notifications taken from the other side.
    public var notificationsTaken: UInt64 = 0
    /// Pages that stay mapped.
    public var mappedPages = 0
    /// How its pages reached the device.
    public var memory = DMACounters()

    /// Nothing yet.
    public init() {}
}
