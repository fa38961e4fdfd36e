// A disk's request: a header that the device reads, data one way or the other, and a status byte that it writes last
// (struct virtio_blk_outhdr, virtio_blk_discard_write_zeroes; linux/virtio_blk.h).

/// What a disk is asked for (`VIRTIO_BLK_T_*`). Any number may be in a request; those that have no name are answered as
/// not supported.
public struct BlockRequestKind: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
    /// The number in the header.
    public var rawValue: UInt32
    /// Any number.
    @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// A read.
    @inlinable public static var read: Self { Self(rawValue: 0) }
    /// A write.
    @inlinable public static var write: Self { Self(rawValue: 1) }
    /// Everything written and answered before is to be durable.
    @inlinable public static var flush: Self { Self(rawValue: 4) }
    /// The disk's name, 20 bytes, not terminated where it has all of them.
    @inlinable public static var identity: Self { Self(rawValue: 8) }
    /// How worn the disk is.
    @inlinable public static var lifetime: Self { Self(rawValue: 10) }
    /// Ranges that are not needed any more.
    @inlinable public static var discard: Self { Self(rawValue: 11) }
    /// Ranges that are to be zero.
    @inlinable public static var writeZeroes: Self { Self(rawValue: 13) }
    /// Ranges that nobody may be able to read any more.
    @inlinable public static var secureErase: Self { Self(rawValue: 14) }

    /// Bytes of a disk's name (`VIRTIO_BLK_ID_BYTES`).
    @inlinable public static var identityBytes: Int { 20 }
}

/// How a request ended (`VIRTIO_BLK_S_*`).
public enum BlockRequestStatus: UInt8, Sendable {
    /// As asked.
    case okay = 0
    /// Not, or not all of it.
    case failed = 1
    /// The disk does not know that.
    case unsupported = 2
}

/// What a request begins with (`struct virtio_blk_outhdr`).
public struct BlockRequestHeader: WireStructure, Equatable {
    /// What is asked for.
    public var kind: BlockRequestKind
    /// The request's priority; nobody heeds it.
    public var priority: UInt32
    /// Where, in 512 bytes.
    public var sector: UInt64

    /// A header.
    @inlinable public init(_ kind: BlockRequestKind, priority: UInt32 = 0, sector: UInt64 = 0) {
        self.kind = kind
        self.priority = priority
        self.sector = sector
    }

    /// Takes the bytes apart.
    @inlinable public init(_ bytes: InlineArray<16, UInt8>) {
        kind = BlockRequestKind(rawValue: bytes.integer(at: 0))
        priority = bytes.integer(at: 4)
        sector = bytes.integer(at: 8)
    }

    /// The structure as it lies in memory.
    @inlinable public var bytes: InlineArray<16, UInt8> {
        var bytes = InlineArray<16, UInt8>.zero
        bytes.put(kind.rawValue, at: 0)
        bytes.put(priority, at: 4)
        bytes.put(sector, at: 8)
        return bytes
    }
}

/// A range of a discard, of zeroes or of an erasure (`struct virtio_blk_discard_write_zeroes`).
public struct BlockRange: WireStructure, Equatable {
    /// Where, in 512 bytes.
    public var sector: UInt64
    /// How many of 512 bytes.
    public var sectorCount: UInt32
    /// `mayUnmap`, and nothing else.
    public var flags: UInt32

    /// In `flags`: zeroes need no room on the disk (`VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP`).
    @inlinable public static var mayUnmap: UInt32 { 1 }

    /// A range.
    @inlinable public init(sector: UInt64, sectorCount: UInt32, flags: UInt32 = 0) {
        self.sector = sector
        self.sectorCount = sectorCount
        self.flags = flags
    }

    /// Takes the bytes apart.
    @inlinable public init(_ bytes: InlineArray<16, UInt8>) {
        sector = bytes.integer(at: 0)
        sectorCount = bytes.integer(at: 8)
        flags = bytes.integer(at: 12)
    }

    /// The structure as it lies in memory.
    @inlinable public var bytes: InlineArray<16, UInt8> {
        var bytes = InlineArray<16, UInt8>.zero
        bytes.put(sector, at: 0)
        bytes.put(sectorCount, at: 8)
        bytes.put(flags, at: 12)
        return bytes
    }
}
