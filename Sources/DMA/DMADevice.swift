// The driver's side of DMA, for one device queue: pages in, bus segments that the device can take out, and back again. Used by one thread.
// Every mapping is recorded and must be unmapped once; a wrong use is an error, always, and changes nothing.

import FrameMaps
import SharedMemory

/// How a queue's device reaches memory.
public struct DMAOptions: Sendable, Hashable {
    public var model: MemoryModel
    /// nil: no IOMMU.
    public var iommu: IommuMode?
    public var constraints: DMAConstraints
    /// Bytes of the bounce pool; 0: none.
    public var bouncePool: Int
    /// Where P2M frames are scattered to.
    public var seed: UInt64
    /// For the tests that show that a wrong translation is noticed: what the device's translation is wrong by, in frames.
    package var frameError: UInt64 = 0
    public init(
        model: MemoryModel = .vp, iommu: IommuMode? = nil, constraints: DMAConstraints = DMAConstraints(),
        bouncePool: Int = 0,
        seed: UInt64 = 1
    ) {
        self.model = model
        self.iommu = iommu
        self.constraints = constraints
        self.bouncePool = bouncePool
        self.seed = seed
    }
    /// Whether bus addresses are what the direct map gives: the process's own bus map, unlimited.
    public var isDirect: Bool { model == .vp && iommu == nil && constraints.isNone && bouncePool == 0 }
}

/// A part of a page that is to be moved.
public struct PagePiece: Hashable, Sendable {
    public var pfn: Pfn
    /// Bytes from the page's start.
    public var offset: UInt32
    public var byteCount: UInt32
    @inlinable public init(pfn: Pfn, offset: UInt32, byteCount: UInt32) {
        self.pfn = pfn
        self.offset = offset
        self.byteCount = byteCount
    }
}

/// A mapping that is to be unmapped once. Numbers are not used again soon: an old handle is an error, not another mapping.
public struct DMAHandle: Hashable, Sendable {
    let index: UInt32
    let generation: UInt32
}

/// What a device's DMA has done.
public struct DMAStatistics: Hashable, Sendable {
    public var maps: UInt64 = 0
    public var unmaps: UInt64 = 0
    /// Bounced pieces by `BounceReason.rawValue`.
    public var bounces: InlineCounts = InlineCounts()
    /// Uses that were refused because they were wrong.
    public var misuses: UInt64 = 0
    public init() {}
    /// A counter for each reason.
    public struct InlineCounts: Hashable, Sendable {
        private var counts: [UInt64] = Array(repeating: 0, count: BounceReason.allCases.count)
        public internal(set) subscript(reason: BounceReason) -> UInt64 {
            get { counts[reason.rawValue] }
            set { counts[reason.rawValue] = newValue }
        }
    }
}

@safe
public final class DMADevice: CustomStringConvertible {
    public let name: String
    public let options: DMAOptions
    /// The device's side.
    public let bus: MemoryBus
    public let pool: BouncePool?
    public var iommu: IommuDomain? { frames?.iommu }
    /// What has been done so far.
    public var statistics: DMAStatistics {
        var all = DMAStatistics()
        (all.maps, all.unmaps, all.misuses, all.bounces) = (ledger.maps, ledger.unmaps, ledger.misuses, bounceCounts)
        return all
    }

    let frames: BusFrames?
    var ledger = MappingLedger()
    var bounceCounts = DMAStatistics.InlineCounts()
    var bounces: [Bounce] = []
    var unusedBounces: [Int32] = []
    /// Mappings made and not unmapped.
    public var liveMappings: Int { ledger.live }

    /// One piece that goes through the pool.
    struct Bounce {
        var slot: BounceSlot
        var pfn: Pfn
        var offset: UInt32
        var byteCount: UInt32
        /// Where in the slot, and where in the transfer, its bytes are.
        var slotOffset: UInt32
        var transferOffset: UInt64
        /// Whether it is the last one in its slot.
        var ownsSlot: Bool
        var next: Int32
    }

    /// nil if the pool's memory cannot be had below the device's mask.
    public init?(name: String, options: DMAOptions = DMAOptions()) {
        self.name = name
        self.options = options
        if options.isDirect {
            bus = MemoryBus()
        } else {
            let iommu = options.iommu.map { IommuDomain(device: name, mode: $0, mask: options.constraints.mask) }
            bus = MemoryBus(model: options.model, iommu: iommu, seed: options.seed)
            bus.frames?.frameError = options.frameError
        }
        frames = bus.frames
        if let frames, options.bouncePool > 0 {
            // Behind an IOMMU the pool's own frames may lie anywhere.
            let mask = options.iommu == nil ? options.constraints.mask : .max
            guard
                let pool = BouncePool(
                    name: name, byteCount: options.bouncePool, maximum: options.bouncePool, frames: frames, mask: mask)
            else { return nil }
            self.pool = pool
        } else {
            pool = nil
        }
    }

    /// Makes a region's pages reachable; returns the first one's number. nil if numbers or table memory have run out. Counted.
    public func attach(_ region: SharedRegion) -> Pfn? {
        if let frames { return frames.attach(region) }
        return Pfn(rawValue: bus.attach(region).rawValue >> frameShift)
    }

    /// The reverse; the memory stays until what the device has begun has ended.
    public func detach(_ region: SharedRegion) {
        guard let frames else { return bus.detach(region) }
        if frames.detach(region) { bus.retire(region) }
    }

    /// As `detach`, for memory whose last operation has ended; see `MemoryBus.detachIdle`.
    public func detachIdle(_ region: SharedRegion) {
        guard let frames else { return bus.detachIdle(region) }
        _ = frames.detach(region)
    }

    /// `DMA of vbd-51712: vp, no IOMMU, 3 mappings`.
    public var description: String {
        "DMA of \(name): \(options.model.rawValue), \(options.iommu.map { "IOMMU \($0.rawValue)" } ?? "no IOMMU"), \(liveMappings) mappings"
    }
}
