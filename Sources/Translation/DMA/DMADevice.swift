// The driver's side of DMA, for one device queue: pages in, bus segments that the device can take out, and back again.
// Used by one thread. Every mapping is recorded and must be unmapped once; a wrong use is an error, always, and changes
// nothing.

import FrameMaps
import SharedMemory

/// How a queue's device reaches memory.
public struct DMAOptions: Sendable, Hashable {
    /// How the domain that drives it knows its memory.
    public var model: MemoryModel
    /// nil: no IOMMU.
    public var iommu: IommuMode?
    /// The device's limits.
    public var constraints: DMAConstraints
    /// Bytes of the bounce pool; 0: none.
    public var bouncePool: Int
    /// Where P2M frames are scattered to when the hypervisor does not say.
    public var seed: UInt64
    /// For the tests that show that a wrong translation is noticed: what the device's translation is wrong by, in
    /// frames.
    package var frameError: UInt64 = 0
    /// The process's own bus map, without limits, unless said otherwise.
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
    /// The page.
    public var pfn: Pfn
    /// Bytes from the page's start.
    public var offset: UInt32
    /// Bytes, at least 1, all in the page.
    public var byteCount: UInt32
    /// A part of a page.
    @inlinable public init(pfn: Pfn, offset: UInt32, byteCount: UInt32) {
        self.pfn = pfn
        self.offset = offset
        self.byteCount = byteCount
    }
    /// Whether it has bytes, and all of them in one page.
    @inlinable @inline(__always)
    var isWithinPage: Bool { byteCount > 0 && UInt64(offset) + UInt64(byteCount) <= frameByteCount }
}

/// A mapping that is to be unmapped once. Numbers are not used again soon: an old handle, or another device's, is an
/// error, not another mapping.
public struct DMAHandle: Hashable, Sendable {
    let index: UInt32
    let generation: UInt32
    let device: UInt32
}

/// What a device's DMA has done.
public struct DMAStatistics: Hashable, Sendable {
    /// Mappings made.
    public var maps: UInt64 = 0
    /// Mappings ended.
    public var unmaps: UInt64 = 0
    /// Bounced pieces by reason.
    public var bounces = BounceCounts()
    /// Uses that were refused because they were wrong.
    public var misuses: UInt64 = 0
    /// Transfers that shared a page with another while one of them was written by the device.
    public var overlaps: UInt64 = 0
    /// Nothing yet.
    public init() {}
    /// Mappings not ended yet.
    public var live: UInt64 { maps &- unmaps }
    /// Adds another device's.
    public static func += (a: inout DMAStatistics, b: DMAStatistics) {
        a.maps &+= b.maps
        a.unmaps &+= b.unmaps
        a.bounces += b.bounces
        a.misuses &+= b.misuses
        a.overlaps &+= b.overlaps
    }
}

/// A device queue's DMA; see the file's beginning.
@safe
public final class DMADevice: CustomStringConvertible {
    /// For messages.
    public let name: String
    /// How it reaches memory.
    public let options: DMAOptions
    /// The device's side.
    public let bus: MemoryBus
    /// Its IO address space, if it is behind an IOMMU.
    public let iommu: IommuDomain?
    /// This queue's part of the bounce pool; nil if there is none.
    public let pool: BounceArea?
    /// What has been done so far.
    public var statistics: DMAStatistics {
        hot.value.statistics(misusesOfFrames: frames?.detachedInUse ?? 0)
    }

    /// Whether its bus is the direct map: nothing is limited, translated or bounced.
    @usableFromInline let isDirect: Bool
    let frames: BusFrames?
    /// What changes with each transfer.
    let hot: OwnedState<Hot>
    /// Of a transfer whose driver has no list of its pieces; used within one call.
    @usableFromInline let pieces = OwnedState<[PagePiece]>([])
    /// Mappings made and not unmapped.
    public var liveMappings: Int { hot.value.ledger.live }

    struct Hot: ~Copyable {
        /// Of the objects that the device owns: their insides, without their reference counts.
        let iommu: StateReference<IommuState>?
        let pool: StateReference<BounceState>?
        let view: BusView?
        let uses: PageUses.Counter?
        let limits: DMAConstraints
        let isFree: Bool
        let cutsNothing: Bool
        let segmentLimit: UInt64
        let alignmentPages: Int
        var ledger = MappingLedger()
        var bounceCounts = BounceCounts()
        var bounces = Slab(filler: Bounce.none)
        var coherent: [UInt32: CoherentPlace] = [:]

        init(
            _ limits: DMAConstraints, _ frames: BusFrames?, _ iommu: StateReference<IommuState>?,
            _ pool: StateReference<BounceState>?
        ) {
            self.limits = limits
            isFree = limits.isFree
            cutsNothing = limits.cutsNothing
            segmentLimit = limits.segmentLimit
            alignmentPages = limits.alignmentPages
            self.iommu = iommu
            self.pool = pool
            view = frames?.view
            uses = frames?.uses.counter
        }

        func statistics(misusesOfFrames: UInt64) -> DMAStatistics {
            var all = DMAStatistics()
            (all.maps, all.unmaps, all.overlaps) = (ledger.maps, ledger.unmaps, ledger.overlaps)
            (all.misuses, all.bounces) = (ledger.misuses &+ misusesOfFrames, bounceCounts)
            return all
        }
    }

    /// Throws `noTables` if its tables have no memory, `noPool` if the bounce pool could have none below the device's
    /// mask, `badConstraints` if no device has such limits.
    /// - Parameters:
    ///   - name: for errors and faults.
    ///   - options: its memory model, IOMMU, limits and pool.
    ///   - shared: where bounces are taken from, shared with the device's other queues; made from the options if there
    ///     is none.
    public init(name: String, options: DMAOptions = DMAOptions(), pool shared: BouncePool? = nil) throws(DMAError) {
        try options.constraints.check()
        // Behind an IOMMU the pool's own frames may lie anywhere.
        let poolMask = options.iommu == nil ? options.constraints.mask : .max
        let budget = shared ?? (options.bouncePool > 0 ? BouncePool(name: name, byteCount: options.bouncePool) : nil)
        // An arena stands at a multiple of its size, and not at 0.
        if let budget, poolMask < UInt64(2 * budget.arenaBytes - 1) {
            throw .noPool(name: budget.name, byteCount: budget.maximum, mask: poolMask)
        }
        self.name = name
        self.options = options
        if options.isDirect && shared == nil {
            bus = MemoryBus()
            iommu = nil
        } else {
            var domain: IommuDomain?
            if let mode = options.iommu {
                domain = try IommuDomain(device: name, mode: mode, mask: options.constraints.mask)
            }
            iommu = domain
            bus = MemoryBus(
                frames: try BusFrames(
                    model: options.model, iommu: domain, seed: options.seed, frameError: options.frameError, name: name))
        }
        frames = bus.frames
        isDirect = bus.frames == nil
        if let frames, let budget {
            pool = BounceArea(pool: budget, frames: frames, mask: poolMask)
        } else {
            pool = nil
        }
        hot = OwnedState(Hot(options.constraints, frames, iommu?.state.reference, pool?.state.reference))
    }

    /// Makes a region's pages reachable; returns the first one's number. nil if numbers, windows or table memory have
    /// run out. Counted.
    /// - Parameters:
    ///   - region: the memory; it is kept until it is detached.
    ///   - machine: the machine frame of each page, where the hypervisor says; asked for only when it is needed.
    public func attach(_ region: SharedRegion, machine: @autoclosure () -> [UInt64]? = nil) -> Pfn? {
        if let frames { return frames.attach(region, machine: machine()) }
        if bus.isPlacing { return bus.attachPlaced(region, machine: machine).map { Pfn(rawValue: $0.rawValue >> frameShift) } }
        return bus.hasRoom(for: region) ? Pfn(rawValue: bus.attach(region).rawValue >> frameShift) : nil
    }

    /// The reverse; the memory stays until what the device has begun has ended.
    public func detach(_ region: SharedRegion) {
        guard let frames else { return bus.detach(region) }
        if frames.detach(region) { bus.retire(region) }
    }

    /// Before the thread sleeps: what waits for a batch does not wait any longer.
    public func settle() { iommu?.flush() }

    /// Ends the device's use: throws `leaked` if a driver left mappings behind. They stay mapped.
    public func close() throws(DMAError) {
        iommu?.flush()
        if let leak = hot.value.ledger.anyLive { throw .leaked(leak) }
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
