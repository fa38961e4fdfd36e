// What lies in a network ring's slots, as private values. Layouts are the same for every ABI: all fields have fixed
// sizes and lie at multiples of them (xen/io/netif.h).

import LinuxSystem
import Packets
import XenTypes

/// One transmit request (`netif_tx_request`), 12 bytes.
public struct TransmitRequest: Hashable, Sendable, BitwiseCopyable {
    /// Bytes in the ring.
    public static let size = 12
    /// The page that holds the data.
    public var reference: GrantReference
    /// Where in the page the data begins.
    public var offset: UInt16
    /// What the frontend says of the packet.
    public var flags: TransmitFlags
    /// Echoed in the response.
    public var id: UInt16
    /// Bytes: of the whole packet in its first request, of its own part in each other.
    public var size: UInt16

    /// A request.
    @inlinable
    public init(reference: GrantReference, offset: UInt16 = 0, flags: TransmitFlags = [], id: UInt16, size: UInt16) {
        self.reference = reference
        self.offset = offset
        self.flags = flags
        self.id = id
        self.size = size
    }
}

/// Twelve bytes of the transmit ring: a request or extra information, which only what came before it tells.
public struct TransmitSlot: Hashable, Sendable, BitwiseCopyable {
    @usableFromInline var first: UInt64
    @usableFromInline var last: UInt32

    @inlinable init(first: UInt64, last: UInt32) {
        self.first = first
        self.last = last
    }

    /// A request.
    @inlinable public init(_ request: TransmitRequest) {
        first =
            UInt64(request.reference.rawValue) | UInt64(request.offset) << 32 | UInt64(request.flags.rawValue) << 48
        last = UInt32(request.id) | UInt32(request.size) << 16
    }

    /// Extra information; the slot's last four bytes are zero.
    @inlinable public init(_ extra: ExtraInfo) {
        first = extra.word
        last = 0
    }

    /// The slot as a request.
    @inlinable public var request: TransmitRequest {
        TransmitRequest(
            reference: GrantReference(UInt32(truncatingIfNeeded: first)), offset: UInt16(truncatingIfNeeded: first >> 32),
            flags: TransmitFlags(rawValue: UInt16(truncatingIfNeeded: first >> 48)),
            id: UInt16(truncatingIfNeeded: last), size: UInt16(truncatingIfNeeded: last >> 16))
    }

    /// The slot as extra information.
    @inlinable public var extra: ExtraInfo { ExtraInfo(word: first) }
}

/// One transmit response (`netif_tx_response`), 4 bytes.
public struct TransmitResponse: Hashable, Sendable, BitwiseCopyable {
    /// Bytes in the ring.
    public static let size = 4
    /// Which request it is, by the frontend's own count.
    public var id: UInt16
    /// How it ended.
    public var status: NetworkStatus
    /// A response.
    @inlinable public init(id: UInt16, status: NetworkStatus) {
        self.id = id
        self.status = status
    }
}

/// One receive request (`netif_rx_request`), 8 bytes.
public struct ReceiveRequest: Hashable, Sendable, BitwiseCopyable {
    /// Bytes in the ring.
    public static let size = 8
    /// Echoed in the response.
    public var id: UInt16
    /// A page that may be written.
    public var reference: GrantReference
    /// A request.
    @inlinable public init(id: UInt16, reference: GrantReference) {
        self.id = id
        self.reference = reference
    }
}

/// One receive response (`netif_rx_response`), 8 bytes.
public struct ReceiveResponse: Hashable, Sendable, BitwiseCopyable {
    /// Bytes in the ring.
    public static let size = 8
    /// Which request it is, by the frontend's own count.
    public var id: UInt16
    /// Where in the page the data begins.
    public var offset: UInt16
    /// What the backend says of the packet.
    public var flags: ReceiveFlags
    /// Bytes, or a negative `NETIF_RSP_*`.
    public var status: Int16
    /// A response.
    @inlinable public init(id: UInt16, offset: UInt16 = 0, flags: ReceiveFlags = [], status: Int16) {
        self.id = id
        self.offset = offset
        self.flags = flags
        self.status = status
    }
}

/// Eight bytes of the receive ring, backend to frontend: a response or extra information.
public struct ReceiveSlot: Hashable, Sendable, BitwiseCopyable {
    @usableFromInline var word: UInt64

    @inlinable init(word: UInt64) { self.word = word }

    /// The slot that holds a response.
    @inlinable public init(_ response: ReceiveResponse) {
        word =
            UInt64(response.id) | UInt64(response.offset) << 16 | UInt64(response.flags.rawValue) << 32
            | UInt64(UInt16(bitPattern: response.status)) << 48
    }

    /// The slot that holds extra information.
    @inlinable public init(_ extra: ExtraInfo) { word = extra.word }

    /// The slot as a response.
    @inlinable public var response: ReceiveResponse {
        ReceiveResponse(
            id: UInt16(truncatingIfNeeded: word), offset: UInt16(truncatingIfNeeded: word >> 16),
            flags: ReceiveFlags(rawValue: UInt16(truncatingIfNeeded: word >> 32)),
            status: Int16(bitPattern: UInt16(truncatingIfNeeded: word >> 48)))
    }

    /// The slot as extra information.
    @inlinable public var extra: ExtraInfo { ExtraInfo(word: word) }
}

/// Extra information about a packet (`netif_extra_info`), 8 bytes.
public struct ExtraInfo: Hashable, Sendable, BitwiseCopyable {
    /// Bytes in the ring.
    public static let size = 8
    /// `type 8 | flags 8 | six bytes that depend on the type`, little end first.
    public var word: UInt64

    /// From the eight bytes as they lie in the ring.
    @inlinable public init(word: UInt64) { self.word = word }

    /// The type as the peer wrote it.
    @inlinable public var rawType: UInt8 { UInt8(truncatingIfNeeded: word) }
    /// The type; nil for one that is not in the protocol.
    @inlinable public var type: ExtraType? { ExtraType(rawValue: rawType) }
    /// Whether one more follows (`XEN_NETIF_EXTRA_FLAG_MORE`).
    @inlinable public var hasMore: Bool {
        get { word >> 8 & 1 != 0 }
        set { word = newValue ? word | 1 << 8 : word & ~(1 << 8) }
    }

    /// Byte `index` of the six.
    @inlinable public func byte(_ index: Int) -> UInt8 { UInt8(truncatingIfNeeded: word >> UInt64(16 + 8 * index)) }

    // Segmentation.

    /// Cuts the packet into segments of `size` bytes of payload.
    @inlinable public init(segmenting type: SegmentationType, size: UInt16) {
        word = UInt64(ExtraType.segmentation.rawValue) | UInt64(size) << 16 | UInt64(type.rawValue) << 32
    }
    /// Bytes of payload in each segment, of a segmentation.
    @inlinable public var segmentSize: UInt16 { UInt16(truncatingIfNeeded: word >> 16) }
    /// The kind of segmentation as the peer wrote it.
    @inlinable public var rawSegmentationType: UInt8 { byte(2) }

    // Multicast.

    /// Adds a multicast address to those that the frontend wants, or takes it away.
    public init(multicast address: MACAddress, isAdded: Bool) {
        word = UInt64((isAdded ? ExtraType.multicastAdd : .multicastDelete).rawValue) | address.littleEndian << 16
    }
    /// The address, of a multicast change.
    public var multicastAddress: MACAddress { MACAddress(littleEndian: word >> 16) }

    // Hash.

    /// The hash that queue selection used; the value's most significant byte comes last, as Linux's netback stores it.
    public init(hash: UInt32, over types: HashTypes, _ algorithm: HashAlgorithm) {
        // The type is the bit's number, not the bit (`_XEN_NETIF_CTRL_HASH_TYPE_*`).
        let number = UInt64(types.rawValue.trailingZeroBitCount & 7)
        word =
            UInt64(ExtraType.hash.rawValue) | number << 16 | UInt64(algorithm.rawValue) << 24 | UInt64(hash) << 32
    }
    /// The value, of a hash.
    public var hash: UInt32 { UInt32(truncatingIfNeeded: word >> 32) }
}

/// One control request (`xen_netif_ctrl_request`), 16 bytes.
public struct ControlRequest: Hashable, Sendable, BitwiseCopyable {
    /// Bytes in the ring.
    public static let size = 16
    /// Which request it is, by the frontend's own count.
    public var id: UInt16
    /// The type as the peer wrote it.
    public var rawType: UInt16
    /// First argument; what it is depends on the type.
    public var data0: UInt32
    /// Second argument.
    public var data1: UInt32
    /// Third argument.
    public var data2: UInt32
    /// The type; nil for one that is not in the protocol.
    public var type: ControlType? { ControlType(rawValue: rawType) }
    /// A request.
    public init(id: UInt16, rawType: UInt16, _ data0: UInt32 = 0, _ data1: UInt32 = 0, _ data2: UInt32 = 0) {
        self.id = id
        self.rawType = rawType
        self.data0 = data0
        self.data1 = data1
        self.data2 = data2
    }
}

/// One control response (`xen_netif_ctrl_response`), 12 bytes.
public struct ControlResponse: Hashable, Sendable, BitwiseCopyable {
    /// Bytes in the ring.
    public static let size = 12
    /// Which request it is, by the frontend's own count.
    public var id: UInt16
    /// The request's type.
    public var rawType: UInt16
    /// The status as the peer wrote it.
    public var rawStatus: UInt32
    /// What the request asked for.
    public var data: UInt32
    /// The status; nil for one that is not in the protocol.
    public var status: ControlStatus? { ControlStatus(rawValue: rawStatus) }
    /// A response.
    public init(id: UInt16, rawType: UInt16, rawStatus: UInt32, data: UInt32 = 0) {
        self.id = id
        self.rawType = rawType
        self.rawStatus = rawStatus
        self.data = data
    }
    /// The answer to `request`.
    public init(to request: ControlRequest, _ status: ControlStatus, data: UInt32 = 0) {
        self.init(id: request.id, rawType: request.rawType, rawStatus: status.rawValue, data: data)
    }
}

/// One entry of a list of pages to be kept mapped (`xen_netif_gref`), 8 bytes.
public struct GrantMappingEntry: Hashable, Sendable, BitwiseCopyable {
    /// Bytes in the ring.
    public static let size = 8
    /// Entries in a page.
    public static let perPage = 512
    /// The page.
    public var reference: GrantReference
    /// Bit 0: may only be read (`XEN_NETIF_CTRLF_GREF_readonly`).
    public var flags: UInt16
    /// Written by the backend: a `ControlStatus`.
    public var status: UInt16
    /// An entry.
    public init(reference: GrantReference, isReadOnly: Bool, status: UInt16 = 0) {
        self.reference = reference
        flags = isReadOnly ? 1 : 0
        self.status = status
    }
    /// From the eight bytes as they lie in the page.
    public init(word: UInt64) {
        reference = GrantReference(UInt32(truncatingIfNeeded: word))
        flags = UInt16(truncatingIfNeeded: word >> 32)
        status = UInt16(truncatingIfNeeded: word >> 48)
    }
    /// The eight bytes as they lie in the page.
    public var word: UInt64 { UInt64(reference.rawValue) | UInt64(flags) << 32 | UInt64(status) << 48 }
    /// Whether the backend may only read the page.
    public var isReadOnly: Bool { flags & 1 != 0 }
}
