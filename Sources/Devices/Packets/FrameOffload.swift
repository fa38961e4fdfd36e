// What a frame's sender left for somebody further down to do.

/// Work left undone in a frame, and what is known of it.
public struct FrameOffload: Hashable, Sendable {
    /// A checksum still to be computed over everything from a place on, and where it belongs.
    public struct Checksum: Hashable, Sendable {
        /// Bytes from the frame's start to the transport header.
        public var start: UInt16
        /// Bytes from there to the checksum's field, which holds the pseudo header's sum.
        public var field: UInt16
        /// A checksum over all from `start` on, to be put at `start + field`; bytes.
        public init(start: UInt16, field: UInt16) {
            self.start = start
            self.field = field
        }
    }

    /// A frame that is to be cut into segments.
    public struct Segmentation: Hashable, Sendable {
        /// What is cut.
        public var type: SegmentationType
        /// Bytes of payload of each segment but the last; at least 1.
        public var size: UInt16
        /// Bytes of headers.
        public var headerCount: UInt16
        /// Segments of `size` bytes of payload behind `headerCount` bytes of headers.
        public init(type: SegmentationType, size: UInt16, headerCount: UInt16) {
            self.type = type
            self.size = size
            self.headerCount = headerCount
        }
    }

    /// The checksum that is left to be done; nil if it is there.
    public var checksum: Checksum?
    /// How the frame is to be cut; nil if it is one packet.
    public var segmentation: Segmentation?
    /// The checksums are known to be good.
    public var isValidated = false

    /// Nothing left undone.
    public init() {}
}

/// Which work a receiver of frames can take over.
public struct OffloadSet: OptionSet, Hashable, Sendable {
    /// The bits; this library's own.
    public let rawValue: UInt32
    /// Takes any bits.
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// Blank checksums.
    public static let checksum = OffloadSet(rawValue: 1)
    /// TCP over IPv4 in frames larger than the MTU.
    public static let tcp4 = OffloadSet(rawValue: 2)
    /// TCP over IPv6 in frames larger than the MTU.
    public static let tcp6 = OffloadSet(rawValue: 4)
}
