// The block protocol's numbers (xen/io/blkif.h).

/// The block protocol's limits and units.
public enum BlockLimits {
    /// Bytes of a sector in every field of the protocol, whatever the disk's own sector size.
    public static let sectorSize = 512
    /// Sectors of 512 bytes in a page.
    public static let sectorsPerPage = 8
    /// Segments that fit in a request itself (`BLKIF_MAX_SEGMENTS_PER_REQUEST`).
    @inlinable public static var maximumDirectSegments: Int { 11 }
    /// Pages of descriptors an indirect request can name (`BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST`).
    @inlinable public static var maximumIndirectPages: Int { 8 }
    /// Descriptors of 8 bytes in a page.
    @inlinable public static var segmentsPerIndirectPage: Int { 512 }
    /// The most an indirect request can carry: 4096 segments, 16 MiB.
    @inlinable public static var maximumIndirectSegments: Int { maximumIndirectPages * segmentsPerIndirectPage }
    /// Bit 0 of a discard's flag (`BLKIF_DISCARD_SECURE`).
    @inlinable public static var secureDiscardFlag: UInt8 { 1 }
}

/// What a request asks for, as the peer wrote it: any byte (`BLKIF_OP_*`).
public struct BlockOperationCode: RawRepresentable, Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The byte.
    public var rawValue: UInt8
    /// Wraps a byte.
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// `BLKIF_OP_READ`.
    @inlinable public static var read: Self { Self(rawValue: 0) }
    /// `BLKIF_OP_WRITE`.
    @inlinable public static var write: Self { Self(rawValue: 1) }
    /// `BLKIF_OP_WRITE_BARRIER`: everything before it is on stable storage before it, and it before everything after.
    @inlinable public static var barrier: Self { Self(rawValue: 2) }
    /// `BLKIF_OP_FLUSH_DISKCACHE`.
    @inlinable public static var flush: Self { Self(rawValue: 3) }
    /// `BLKIF_OP_RESERVED_1`: once SCSI packets, by private agreement.
    @inlinable public static var reserved: Self { Self(rawValue: 4) }
    /// `BLKIF_OP_DISCARD`.
    @inlinable public static var discard: Self { Self(rawValue: 5) }
    /// `BLKIF_OP_INDIRECT`.
    @inlinable public static var indirect: Self { Self(rawValue: 6) }

    /// `read`, or `operation 77` for a byte without a name.
    public var description: String {
        let names = ["read", "write", "barrier", "flush", "reserved", "discard", "indirect"]
        return Int(rawValue) < names.count ? names[Int(rawValue)] : "operation \(rawValue)"
    }
}

/// How a request ended (`BLKIF_RSP_*`).
public struct BlockStatus: RawRepresentable, Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The number; a peer may send any.
    public var rawValue: Int16
    /// Wraps a number.
    @inlinable public init(rawValue: Int16) { self.rawValue = rawValue }

    /// Done.
    @inlinable public static var okay: Self { Self(rawValue: 0) }
    /// Failed, for whatever reason.
    @inlinable public static var error: Self { Self(rawValue: -1) }
    /// The operation is not supported (`BLKIF_RSP_EOPNOTSUPP`); the frontend should not ask for it again.
    @inlinable public static var unsupported: Self { Self(rawValue: -2) }

    /// `okay`, `error`, `unsupported`, or the number.
    public var description: String {
        switch self {
        case .okay: "okay"
        case .error: "error"
        case .unsupported: "unsupported"
        default: "status \(rawValue)"
        }
    }
}

/// What kind of disk it is: bits of the `info` node (`VDISK_*`).
public struct BlockDeviceInfo: OptionSet, Sendable, Hashable {
    /// The bits, as the node has them in decimal.
    public let rawValue: UInt32
    /// Wraps bits; unknown ones are kept.
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// A CD-ROM (`VDISK_CDROM`).
    public static let cdrom = BlockDeviceInfo(rawValue: 1)
    /// Removable (`VDISK_REMOVABLE`).
    public static let removable = BlockDeviceInfo(rawValue: 2)
    /// Read-only (`VDISK_READONLY`).
    public static let readOnly = BlockDeviceInfo(rawValue: 4)
}
