// Whether a driver's request makes sense, and what it is in a disk's terms. Everything here rests on copies.

import BlockDevices
import BlockModel
import VirtioRing
import VirtioWire

/// The disk's limits, and what the driver agreed to. Changes when the disk's size does, or when an operation turns out
/// not to be known.
struct VirtioBlockRules {
    /// Bytes of the disk.
    var byteCount: UInt64
    /// What every offset and length is a multiple of.
    let blockSize: UInt64
    let isReadOnly: Bool
    /// Whether these are done; what was not agreed to is not supported.
    var hasFlush: Bool
    var hasDiscard: Bool
    var hasZeroes: Bool
    var hasErasure: Bool
    /// Whether zeroes may give room back, as the driver was told.
    let mayUnmap: Bool
    /// A driver that did not agree to flushes cannot ask for them: what it wrote is durable when it is answered (virtio
    /// 1.2, 5.2.5.2).
    let writesThrough: Bool
    /// Whether the disk can do that with a write of its own.
    let writesDurably: Bool

    init(_ geometry: BlockGeometry, _ features: VirtioFeatures, mayUnmap: Bool = true) {
        byteCount = geometry.byteCount
        blockSize = UInt64(geometry.logicalSectorSize)
        // Whether or not the driver took note of it.
        isReadOnly = geometry.isReadOnly
        hasFlush = geometry.canFlush && features.contains(VirtioFeatures.Block.flush)
        writesDurably = geometry.writesDurably
        writesThrough = geometry.canFlush && !features.contains(VirtioFeatures.Block.flush)
        hasDiscard = features.contains(VirtioFeatures.Block.discard) && geometry.discard != nil
        hasZeroes = features.contains(VirtioFeatures.Block.writeZeroes) && geometry.zeroes != nil
        hasErasure = features.contains(VirtioFeatures.Block.secureErase) && geometry.discard?.secure == true
        self.mayUnmap = mayUnmap && geometry.zeroes == .canUnmap
    }

    /// What becomes of a request that is not one of ranges.
    enum Verdict: Equatable {
        /// This is to be done.
        case work(BlockWork)
        /// It asks for the disk's name.
        case identity
        /// It is answered so at once.
        case refused(BlockRequestStatus)
    }

    /// Looks at a request that is not one of ranges.
    /// - Parameters:
    ///   - incoming: bytes of data that the driver gives, after the header.
    ///   - outgoing: bytes of data that it has room for, before the status.
    func verdict(_ header: BlockRequestHeader, incoming: UInt64, outgoing: UInt64) -> Verdict {
        switch header.kind {
        case .read:
            guard incoming == 0, let offset = place(header.sector, outgoing) else { return .refused(.failed) }
            return .work(BlockWork(.read(offset: offset), byteCount: outgoing))
        case .write:
            guard !isReadOnly, outgoing == 0, let offset = place(header.sector, incoming) else { return .refused(.failed) }
            let isDurable = writesThrough && writesDurably
            return .work(
                BlockWork(
                    .write(offset: offset, isDurable: isDurable), ordering: writesThrough && !isDurable ? .barrier : .none,
                    byteCount: incoming))
        case .flush:
            // virtio 1.2, 5.2.6.2: the sector of a flush is 0 and it has no data; drivers are not checked for it.
            return hasFlush ? .work(BlockWork(.flush)) : .refused(.unsupported)
        case .identity: return outgoing > 0 ? .identity : .refused(.failed)
        default: return .refused(.unsupported)
        }
    }

    /// The place of so many bytes at a sector; nil: not on the disk, not whole blocks, or none at all.
    func place(_ sector: UInt64, _ count: UInt64) -> UInt64? {
        guard count > 0, sector <= UInt64.max >> 9 else { return nil }
        let offset = sector << 9
        guard offset % blockSize == 0, count % blockSize == 0, offset <= byteCount, count <= byteCount - offset else { return nil }
        return offset
    }
}
