// Requests after validation: closed types that only a validator makes. What they say holds.

import XenTypes

/// What a valid request asks for.
public enum ValidatedBlockRequest: Sendable {
    /// Data. Where in the frontend's pages stands in the list that the validator filled.
    case transfer(BlockTransfer)
    /// Data, in segments that lie in other pages: copy those in, then
    /// `BlockRequestValidator.validate(_:segments:into:)`.
    case indirect(IndirectTransfer)
    /// No data: what is written is to be on stable storage.
    case flush(BlockOrdering)
    /// Sectors whose content is no longer needed.
    case discard(BlockDiscard)
}

/// Which way data goes, seen from the disk.
public enum BlockDirection: Sendable, BitwiseCopyable {
    /// From the disk into the frontend's pages.
    case read
    /// From the frontend's pages onto the disk.
    case write
}

/// What must have happened before a transfer or flush begins.
public enum BlockOrdering: Sendable, BitwiseCopyable {
    /// Nothing.
    case none
    /// Writes that were completed are on stable storage (`BLKIF_OP_FLUSH_DISKCACHE`).
    case flush
    /// All that the disk was asked before, on every queue, is complete and on stable storage; and this is, before
    /// anything later begins (`BLKIF_OP_WRITE_BARRIER`).
    case drainAndFlush
}

/// A run of sectors that lies on the disk, and what is done with it.
public struct BlockTransfer: Sendable, BitwiseCopyable, Equatable {
    /// Read or write.
    public let direction: BlockDirection
    /// What comes first.
    public let ordering: BlockOrdering
    /// First sector, in units of 512 bytes.
    public let sector: UInt64
    /// Number of 512-byte sectors, more than 0.
    public let sectorCount: UInt32

    @inlinable
    init(direction: BlockDirection, ordering: BlockOrdering, sector: UInt64, sectorCount: UInt32) {
        self.direction = direction
        self.ordering = ordering
        self.sector = sector
        self.sectorCount = sectorCount
    }

    /// Where it begins on the disk, in bytes: fits a signed 64-bit file offset.
    @inlinable public var byteOffset: Int { Int(truncatingIfNeeded: sector << 9) }
    /// How long it is, in bytes.
    @inlinable public var byteCount: Int { Int(sectorCount) << 9 }
}

/// Part of one granted page, within it.
public struct SegmentRange: Sendable, BitwiseCopyable, Equatable {
    /// The page.
    public let reference: GrantReference
    @usableFromInline let first: UInt8
    @usableFromInline let sectors: UInt8

    @inlinable @inline(__always)
    init(word: UInt64) {
        let segment = BlockSegment(word: word)
        reference = segment.reference
        first = segment.first
        sectors = segment.last &- segment.first &+ 1
    }

    /// Where it begins in the page, in bytes: a multiple of 512.
    @inlinable public var byteOffset: Int { Int(first) << 9 }
    /// How long it is, in bytes: 512 to 4096.
    @inlinable public var byteCount: Int { Int(sectors) << 9 }
}

/// A transfer whose segments are still in pages of the frontend.
public struct IndirectTransfer: Sendable, BitwiseCopyable {
    /// Read or write.
    public let direction: BlockDirection
    /// First sector, in units of 512 bytes: not held against the disk's end before the lengths are known.
    public let sector: UInt64
    /// Number of segments: at least 1, at most what was offered.
    public let segmentCount: Int
    @usableFromInline let words: InlineArray<4, UInt64>

    @inlinable
    init(direction: BlockDirection, sector: UInt64, segmentCount: Int, request: BlockRequest) {
        self.direction = direction
        self.sector = sector
        self.segmentCount = segmentCount
        words = [request.payload[0], request.payload[1], request.payload[2], request.payload[3]]
    }

    /// How many pages hold the segments: 1 to 8.
    @inlinable public var pageCount: Int {
        (segmentCount + BlockLimits.segmentsPerIndirectPage - 1) / BlockLimits.segmentsPerIndirectPage
    }

    /// The page `index`, below `pageCount`.
    @inlinable public func reference(_ index: Int) -> GrantReference {
        GrantReference(UInt32(truncatingIfNeeded: words[index >> 1] >> (UInt64(index & 1) << 5)))
    }

    /// How many segments the page `index` holds: 512, fewer on the last.
    @inlinable public func segmentCount(onPage index: Int) -> Int {
        max(0, min(BlockLimits.segmentsPerIndirectPage, segmentCount - index * BlockLimits.segmentsPerIndirectPage))
    }
}

/// A run of sectors whose content is no longer needed.
public struct BlockDiscard: Sendable, BitwiseCopyable, Equatable {
    /// First sector, in units of 512 bytes.
    public let sector: UInt64
    /// Number of 512-byte sectors; may be 0.
    public let sectorCount: UInt64
    /// Whether no copy may be recoverable.
    public let isSecure: Bool

    @inlinable
    init(sector: UInt64, sectorCount: UInt64, isSecure: Bool) {
        self.sector = sector
        self.sectorCount = sectorCount
        self.isSecure = isSecure
    }
}
