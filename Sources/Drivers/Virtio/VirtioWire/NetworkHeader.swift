// What stands before each frame of an interface, both ways (struct virtio_net_hdr_v1, virtio_net_hdr_v1_hash;
// linux/virtio_net.h). The forms of 10 bytes are of drivers before virtio 1.0.

/// A frame's header, 12 bytes.
public struct NetworkHeader: WireStructure, Equatable {
    /// `needsChecksum`, `checksumIsValid`.
    public var flags: UInt8
    /// One of the kinds below, perhaps with `congestionMarks`.
    public var segmentation: UInt8
    /// Bytes of the frame's own headers; a hint, and not to be relied on.
    public var headerBytes: UInt16
    /// Bytes of each segment's data.
    public var segmentBytes: UInt16
    /// Where the checksum that is blank begins to count.
    public var checksumStart: UInt16
    /// Where it stands, from there.
    public var checksumOffset: UInt16
    /// Chains that a received frame lies in; 1 without `mergeableBuffers`, and where the driver sends.
    public var bufferCount: UInt16

    /// In `flags`: the checksum is blank (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
    @inlinable public static var needsChecksum: UInt8 { 1 }
    /// In `flags`: the checksum has been checked (`VIRTIO_NET_HDR_F_DATA_VALID`).
    @inlinable public static var checksumIsValid: UInt8 { 2 }
    /// No segments (`VIRTIO_NET_HDR_GSO_NONE`).
    @inlinable public static var whole: UInt8 { 0 }
    /// TCP over IPv4 (`VIRTIO_NET_HDR_GSO_TCPV4`).
    @inlinable public static var tcp4: UInt8 { 1 }
    /// UDP to be fragmented (`VIRTIO_NET_HDR_GSO_UDP`).
    @inlinable public static var udp: UInt8 { 3 }
    /// TCP over IPv6 (`VIRTIO_NET_HDR_GSO_TCPV6`).
    @inlinable public static var tcp6: UInt8 { 4 }
    /// UDP to be segmented (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    @inlinable public static var udpSegments: UInt8 { 5 }
    /// Beside a kind: with congestion marks (`VIRTIO_NET_HDR_GSO_ECN`).
    @inlinable public static var congestionMarks: UInt8 { 0x80 }

    /// The header of a whole frame whose checksum is there.
    @inlinable public init() { self.init(.zero) }

    /// Takes the bytes apart.
    @inlinable public init(_ bytes: InlineArray<12, UInt8>) {
        flags = bytes.integer(at: 0)
        segmentation = bytes.integer(at: 1)
        headerBytes = bytes.integer(at: 2)
        segmentBytes = bytes.integer(at: 4)
        checksumStart = bytes.integer(at: 6)
        checksumOffset = bytes.integer(at: 8)
        bufferCount = bytes.integer(at: 10)
    }

    /// The structure as it lies in memory.
    @inlinable public var bytes: InlineArray<12, UInt8> {
        var bytes = InlineArray<12, UInt8>.zero
        bytes.put(flags, at: 0)
        bytes.put(segmentation, at: 1)
        bytes.put(headerBytes, at: 2)
        bytes.put(segmentBytes, at: 4)
        bytes.put(checksumStart, at: 6)
        bytes.put(checksumOffset, at: 8)
        bytes.put(bufferCount, at: 10)
        return bytes
    }
}

/// A received frame's header where the frame's hash was agreed on, 20 bytes.
public struct NetworkHashHeader: WireStructure, Equatable {
    /// What every frame has.
    public var header: NetworkHeader
    /// The hash.
    public var hash: UInt32
    /// What it was made of (`VIRTIO_NET_HASH_REPORT_*`); 0: there is none.
    public var hashKind: UInt16

    /// A header.
    @inlinable public init(_ header: NetworkHeader, hash: UInt32 = 0, hashKind: UInt16 = 0) {
        self.header = header
        self.hash = hash
        self.hashKind = hashKind
    }

    /// Takes the bytes apart.
    @inlinable public init(_ bytes: InlineArray<20, UInt8>) {
        var first = InlineArray<12, UInt8>.zero
        for place in 0..<12 { first[place] = bytes[place] }
        header = NetworkHeader(first)
        hash = bytes.integer(at: 12)
        hashKind = bytes.integer(at: 16)
    }

    /// The structure as it lies in memory.
    @inlinable public var bytes: InlineArray<20, UInt8> {
        var bytes = InlineArray<20, UInt8>.zero
        let first = header.bytes
        for place in 0..<12 { bytes[place] = first[place] }
        bytes.put(hash, at: 12)
        bytes.put(hashKind, at: 16)
        return bytes
    }
}
