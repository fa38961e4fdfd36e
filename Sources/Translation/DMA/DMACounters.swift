// All that a device queue's DMA has counted, in one value: for status and tests.

/// Counters of one `DMADevice`, and of those who use it.
public struct DMACounters: Hashable, Sendable {
    /// Mappings and bounces.
    public var transfers = DMAStatistics()
    /// The IOMMU, if there is one.
    public var iommu: IommuStatistics?
    /// What the IOMMU refused.
    public var faults: UInt64 = 0
    /// Ranges that are unmapped and still within the device's reach (deferred mode).
    public var stale = 0
    /// Slots of the bounce pool that are lent.
    public var bounceSlotsInUse = 0
    /// Slots of the bounce pool that there are.
    public var bounceSlots = 0
    /// Transfers that could not be mapped for the device.
    public var unmappable: UInt64 = 0
    /// Mappings that could not be ended: our own bookkeeping's failure.
    public var unmapFailures: UInt64 = 0

    /// Nothing yet.
    public init() {}

    /// As `device` has them now.
    public init(_ device: DMADevice, unmappable: UInt64 = 0, unmapFailures: UInt64 = 0) {
        transfers = device.statistics
        iommu = device.iommu?.statistics
        faults = device.iommu?.faults.count ?? 0
        stale = device.iommu?.staleCount ?? 0
        bounceSlotsInUse = device.pool?.slotsInUse ?? 0
        bounceSlots = device.pool?.slotCount ?? 0
        self.unmappable = unmappable
        self.unmapFailures = unmapFailures
    }
}
