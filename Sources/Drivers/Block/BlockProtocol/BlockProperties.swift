// What a vbd backend publishes on connecting: the disk, and which operations it takes (xen/io/blkif.h).

import XenBus
import XenStore

/// How a disk discards; bytes.
public struct DiscardKeys: Equatable, Sendable {
    /// `discard-granularity`.
    public var granularity: UInt32
    /// `discard-alignment`.
    public var alignment: UInt32
    /// `discard-secure`.
    public var secure: Bool

    /// The keys as given.
    public init(granularity: UInt32, alignment: UInt32, secure: Bool) {
        self.granularity = granularity
        self.alignment = alignment
        self.secure = secure
    }
}

/// A connected disk as its frontend sees it.
public struct BlockProperties: Equatable, Sendable {
    /// Capacity in 512-byte units whatever the sector size is.
    public var sectors: UInt64
    /// Logical sector size in bytes.
    public var sectorSize: UInt32
    /// Physical sector size in bytes.
    public var physicalSectorSize: UInt32
    /// What kind of disk it is.
    public var info: BlockDeviceInfo
    /// `feature-flush-cache`.
    public var flush: Bool
    /// `feature-barrier`.
    public var barrier: Bool
    /// nil: no discard (`feature-discard`).
    public var discard: DiscardKeys?
    /// `feature-persistent`.
    public var persistent: Bool

    /// The properties as given.
    public init(
        sectors: UInt64, sectorSize: UInt32 = 512, physicalSectorSize: UInt32 = 512, info: BlockDeviceInfo = [],
        flush: Bool = false, barrier: Bool = false, discard: DiscardKeys? = nil, persistent: Bool = false
    ) {
        self.sectors = sectors
        self.sectorSize = sectorSize
        self.physicalSectorSize = physicalSectorSize
        self.info = info
        self.flush = flush
        self.barrier = barrier
        self.discard = discard
        self.persistent = persistent
    }

    /// Writes everything into a backend's directory. Call inside a transaction.
    public func write(to store: some StoreAccess, at path: String) throws(XenbusError) {
        try store.put("\(path)/feature-flush-cache", flush ? 1 : 0)
        try store.put("\(path)/feature-barrier", barrier ? 1 : 0)
        if let discard {
            try store.put("\(path)/discard-granularity", discard.granularity)
            try store.put("\(path)/discard-alignment", discard.alignment)
            try store.put("\(path)/discard-secure", discard.secure ? 1 : 0)
        }
        try store.put("\(path)/feature-discard", discard == nil ? 0 : 1)
        try store.put("\(path)/feature-persistent", persistent ? 1 : 0)
        try store.put("\(path)/sectors", sectors)
        try store.put("\(path)/info", info.rawValue)
        try store.put("\(path)/sector-size", sectorSize)
        try store.put("\(path)/physical-sector-size", physicalSectorSize)
    }

    /// Reads what a backend published; the backend may be hostile, so each number has its range.
    public static func read(from store: some StoreAccess, at path: String) throws(XenbusError) -> BlockProperties {
        // 2^54 units of 512 bytes is 8 EiB, so that a byte offset always fits in 63 bits.
        let sectors = try store.requiredNumber("\(path)/sectors", in: 0...(UInt64(1) << 54) - 1)
        let sectorSize = try store.requiredNumber("\(path)/sector-size", in: 512...UInt32(1 << 16))
        guard sectorSize.nonzeroBitCount == 1 else {
            throw .malformed(MalformedNode("\(path)/sector-size", "is \(sectorSize), not a power of two"))
        }
        let physical = try store.number("\(path)/physical-sector-size", in: 512...UInt32(1 << 24)) ?? sectorSize
        var discard: DiscardKeys?
        if try store.flag("\(path)/feature-discard") {
            discard = DiscardKeys(
                granularity: try store.number("\(path)/discard-granularity", in: 1...UInt32.max) ?? sectorSize,
                alignment: try store.number("\(path)/discard-alignment", in: 0...UInt32.max) ?? 0,
                secure: try store.flag("\(path)/discard-secure"))
        }
        return BlockProperties(
            sectors: sectors, sectorSize: sectorSize, physicalSectorSize: physical,
            info: BlockDeviceInfo(rawValue: try store.requiredNumber("\(path)/info", in: 0...UInt32.max)),
            flush: try store.flag("\(path)/feature-flush-cache"), barrier: try store.flag("\(path)/feature-barrier"),
            discard: discard, persistent: try store.flag("\(path)/feature-persistent"))
    }
}
