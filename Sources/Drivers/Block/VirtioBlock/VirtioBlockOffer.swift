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
    /// Sectors that one discard may have: 1 GiB, so that one request does not hold a disk for ever.
    static let mostDiscardSectors: UInt32 = 1 << 21

    /// The features of a disk like this, its rings' included.
    func features(_ geometry: BlockGeometry) -> VirtioFeatures {
        var features: VirtioFeatures = [
            .version1, .eventIndex, .indirectDescriptors, .packedRing,
            VirtioFeatures.Block.segmentMax, VirtioFeatures.Block.blockSize, VirtioFeatures.Block.topology,
            VirtioFeatures.Block.multiQueue,
        ]
        if geometry.isReadOnly { features.insert(VirtioFeatures.Block.readOnly) }
        if geometry.canFlush { features.insert(VirtioFeatures.Block.flush) }
        if offersDiscard, geometry.discard != nil, !geometry.isReadOnly { features.insert(VirtioFeatures.Block.discard) }
        return features
    }

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
            configuration.maxDiscardSegments = 1
            configuration.discardSectorAlignment = max(1, discard.granularity / 512)
        }
        return configuration
    }
}
