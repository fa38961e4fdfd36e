// Requests of ranges: discards, zeroes, erasures. All ranges are looked at before the first is done.

import BlockDevices
import BlockModel
import VirtioWire

extension BlockRequestKind {
    /// Whether a request of this kind has ranges for data.
    @inline(__always) var hasRanges: Bool { self == .discard || self == .writeZeroes || self == .secureErase }
}

extension VirtioBlockRules {
    /// What becomes of one range.
    enum RangeVerdict: Equatable {
        case operation(DeviceOperation)
        case refused(BlockRequestStatus)
    }

    /// How many ranges so many bytes are; nil: none, more than are offered, or a part of one.
    static func rangeCount(_ byteCount: UInt64) -> Int? {
        let size = UInt64(BlockRange.byteCount)
        guard byteCount > 0, byteCount % size == 0, byteCount / size <= UInt64(VirtioBlockOffer.mostRanges) else { return nil }
        return Int(byteCount / size)
    }

    /// Whether requests of this kind are done.
    func knows(_ kind: BlockRequestKind) -> Bool {
        switch kind {
        case .discard: hasDiscard
        case .writeZeroes: hasZeroes
        case .secureErase: hasErasure
        default: false
        }
    }

    /// Looks at one range of a request that is known.
    func verdict(_ kind: BlockRequestKind, _ range: BlockRange) -> RangeVerdict {
        // Only zeroes have a flag, and only one (virtio 1.2, 5.2.6.2).
        let flags = kind == .writeZeroes ? BlockRange.mayUnmap : 0
        guard range.flags & ~flags == 0 else { return .refused(.unsupported) }
        let most = kind == .writeZeroes ? VirtioBlockOffer.mostZeroSectors : VirtioBlockOffer.mostDiscardSectors
        let count = UInt64(range.sectorCount) << 9
        guard !isReadOnly, range.sectorCount <= most, let offset = place(range.sector, count) else { return .refused(.failed) }
        if kind == .writeZeroes {
            return .operation(.writeZeroes(offset: offset, byteCount: count, mayUnmap: mayUnmap && range.flags & flags != 0))
        }
        return .operation(.discard(offset: offset, byteCount: count, secure: kind == .secureErase))
    }
}
