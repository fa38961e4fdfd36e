// What a disk is to a virtio driver: its features and its configuration space, from its geometry.

import BlockDevices
import VirtioWire

/// A disk as its drivers see it.
struct VirtioBlockOffer: Sendable {
    /// Queues that a driver may use.
    let queues: Int
    /// What the driver is told when it asks for the disk's name; 20 bytes at most count.
    let identity: String
    /// Whether discards are offered where the disk has them.
    let offersDiscard: Bool
    /// Segments of a request's data at most.
    static let mostSegments = 126
    /// Ranges of one discard, write of zeroes or erasure at most.
    static let mostRanges = 16
    /// Sectors that one range of a discard or an erasure may have: 1 GiB, so that one request does not hold a disk for
    /// ever.
    static let mostDiscardSectors: UInt32 = 1 << 21
    /// The same of zeroes, which may have to be written: 64 MiB.
    static let mostZeroSectors: UInt32 = 1 << 17

    /// The features of a disk like this, its rings' included.
    func features(_ geometry: BlockGeometry) -> VirtioFeatures {
        var features: VirtioFeatures = [
            .version1, .eventIndex, .indirectDescriptors, .packedRing, .accessPlatform,
            VirtioFeatures.Block.segmentMax, VirtioFeatures.Block.blockSize, VirtioFeatures.Block.topology,
            VirtioFeatures.Block.multiQueue,
        ]
        if geometry.isReadOnly { features.insert(VirtioFeatures.Block.readOnly) }
        if geometry.canFlush { features.insert(VirtioFeatures.Block.flush) }
        if !geometry.isReadOnly, geometry.zeroes != nil { features.insert(VirtioFeatures.Block.writeZeroes) }
        if offersDiscard, !geometry.isReadOnly, let discard = geometry.discard {
            features.insert(VirtioFeatures.Block.discard)
            if discard.secure { features.insert(VirtioFeatures.Block.secureErase) }
        }
        return features
    }

    /// Whether zeroes may give room back: where discards are not wanted the disk keeps what it has.
    func mayUnmap(_ geometry: BlockGeometry) -> Bool { offersDiscard && geometry.zeroes == .canUnmap }

    /// The configuration space.
    func configuration(_ geometry: BlockGeometry) -> BlockConfiguration {
        var configuration = BlockConfiguration()
        configuration.capacity = geometry.byteCount / 512
        configuration.segmentMax = UInt32(Self.mostSegments)
        configuration.blockSize = geometry.logicalSectorSize
        let blocks = max(1, geometry.physicalSectorSize / max(1, geometry.logicalSectorSize))
        configuration.physicalBlockExponent = UInt8(clamping: blocks.trailingZeroBitCount)
        configuration.minimumIOSize = UInt16(clamping: blocks)
        configuration.writeback = geometry.canFlush ? 1 : 0
        configuration.queueCount = UInt16(clamping: queues)
        if offersDiscard, let discard = geometry.discard {
            configuration.maxDiscardSectors = Self.mostDiscardSectors
            configuration.maxDiscardSegments = UInt32(Self.mostRanges)
            configuration.discardSectorAlignment = max(1, discard.granularity / 512)
            if discard.secure {
                configuration.maxSecureEraseSectors = Self.mostDiscardSectors
                configuration.maxSecureEraseSegments = UInt32(Self.mostRanges)
                configuration.secureEraseSectorAlignment = configuration.discardSectorAlignment
            }
        }
        if geometry.zeroes != nil {
            configuration.maxWriteZeroesSectors = Self.mostZeroSectors
            configuration.maxWriteZeroesSegments = UInt32(Self.mostRanges)
            configuration.writeZeroesMayUnmap = mayUnmap(geometry) ? 1 : 0
        }
        return configuration
    }
}
