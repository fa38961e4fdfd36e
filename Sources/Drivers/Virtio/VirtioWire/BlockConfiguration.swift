// What a disk says of itself (struct virtio_blk_config; linux/virtio_blk.h), without zones. A driver or a front end may
// ask for less of it, or for more: see `prefix`.

/// A virtio disk's configuration space.
public struct BlockConfiguration: WireStructure, Equatable {
    /// Sectors of 512 bytes.
    public var capacity: UInt64 = 0
    /// The most bytes of a segment.
    public var sizeMax: UInt32 = 0
    /// The most segments of a request.
    public var segmentMax: UInt32 = 0
    /// Cylinders, of a geometry that means nothing.
    public var cylinders: UInt16 = 0
    /// Heads.
    public var heads: UInt8 = 0
    /// Sectors of a track.
    public var trackSectors: UInt8 = 0
    /// Bytes of a block.
    public var blockSize: UInt32 = 0
    /// Blocks of a physical block, as a power of two.
    public var physicalBlockExponent: UInt8 = 0
    /// The first block that begins a physical one.
    public var alignmentOffset: UInt8 = 0
    /// The fewest blocks that cost no more than they are.
    public var minimumIOSize: UInt16 = 0
    /// The blocks that go best.
    public var optimalIOSize: UInt32 = 0
    /// Whether writes may stay in a cache: the driver may write this where that was agreed on.
    public var writeback: UInt8 = 0
    /// Queues there are.
    public var queueCount: UInt16 = 0
    /// The most sectors of a discard's range.
    public var maxDiscardSectors: UInt32 = 0
    /// The most ranges of a discard.
    public var maxDiscardSegments: UInt32 = 0
    /// What discards should be aligned to, in sectors.
    public var discardSectorAlignment: UInt32 = 0
    /// The most sectors of a range to be zero.
    public var maxWriteZeroesSectors: UInt32 = 0
    /// The most ranges to be zero.
    public var maxWriteZeroesSegments: UInt32 = 0
    /// Whether zeroes may give room back.
    public var writeZeroesMayUnmap: UInt8 = 0
    /// The most sectors of an erasure's range.
    public var maxSecureEraseSectors: UInt32 = 0
    /// The most ranges of an erasure.
    public var maxSecureEraseSegments: UInt32 = 0
    /// What erasures must be aligned to, in sectors.
    public var secureEraseSectorAlignment: UInt32 = 0

    /// Where `writeback` lies, which alone a driver may write.
    @inlinable public static var writebackOffset: Int { 32 }

    /// A disk of no sectors.
    public init() {}

    /// Takes the bytes apart.
    public init(_ bytes: InlineArray<72, UInt8>) {
        capacity = bytes.integer(at: 0)
        sizeMax = bytes.integer(at: 8)
        segmentMax = bytes.integer(at: 12)
        cylinders = bytes.integer(at: 16)
        heads = bytes.integer(at: 18)
        trackSectors = bytes.integer(at: 19)
        blockSize = bytes.integer(at: 20)
        physicalBlockExponent = bytes.integer(at: 24)
        alignmentOffset = bytes.integer(at: 25)
        minimumIOSize = bytes.integer(at: 26)
        optimalIOSize = bytes.integer(at: 28)
        writeback = bytes.integer(at: 32)
        queueCount = bytes.integer(at: 34)
        maxDiscardSectors = bytes.integer(at: 36)
        maxDiscardSegments = bytes.integer(at: 40)
        discardSectorAlignment = bytes.integer(at: 44)
        maxWriteZeroesSectors = bytes.integer(at: 48)
        maxWriteZeroesSegments = bytes.integer(at: 52)
        writeZeroesMayUnmap = bytes.integer(at: 56)
        maxSecureEraseSectors = bytes.integer(at: 60)
        maxSecureEraseSegments = bytes.integer(at: 64)
        secureEraseSectorAlignment = bytes.integer(at: 68)
    }

    /// The structure as it lies in memory.
    public var bytes: InlineArray<72, UInt8> {
        var bytes = InlineArray<72, UInt8>.zero
        bytes.put(capacity, at: 0)
        bytes.put(sizeMax, at: 8)
        bytes.put(segmentMax, at: 12)
        bytes.put(cylinders, at: 16)
        bytes.put(heads, at: 18)
        bytes.put(trackSectors, at: 19)
        bytes.put(blockSize, at: 20)
        bytes.put(physicalBlockExponent, at: 24)
        bytes.put(alignmentOffset, at: 25)
        bytes.put(minimumIOSize, at: 26)
        bytes.put(optimalIOSize, at: 28)
        bytes.put(writeback, at: 32)
        bytes.put(queueCount, at: 34)
        bytes.put(maxDiscardSectors, at: 36)
        bytes.put(maxDiscardSegments, at: 40)
        bytes.put(discardSectorAlignment, at: 44)
        bytes.put(maxWriteZeroesSectors, at: 48)
        bytes.put(maxWriteZeroesSegments, at: 52)
        bytes.put(writeZeroesMayUnmap, at: 56)
        bytes.put(maxSecureEraseSectors, at: 60)
        bytes.put(maxSecureEraseSegments, at: 64)
        bytes.put(secureEraseSectorAlignment, at: 68)
        return bytes
    }
}

extension WireStructure {
    /// The bytes that a front end asked for: as many as it asked for, zero where the structure has none.
    ///
    /// QEMU 7.2 asks for 57 bytes of a disk's configuration, others for 60 or 256; the reply is as long as the
    /// question.
    /// - Returns: nil where the question passes 256 bytes, which no configuration space has.
    public func prefix(from start: UInt32, count: UInt32) -> [UInt8]? {
        guard start <= 256, count <= 256 - start else { return nil }
        let bytes = bytes
        return (Int(start)..<Int(start + count)).map { $0 < Bytes.byteCount ? bytes.byte($0) : 0 }
    }
}
