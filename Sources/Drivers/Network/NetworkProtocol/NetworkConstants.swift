// The network protocol's numbers (xen/io/netif.h).

/// The network protocol's limits.
public enum NetworkLimits {
    /// Bytes of a page; no slot's data crosses one.
    @inlinable public static var pageSize: Int { 4096 }
    /// Bytes of an Ethernet header: the least that is a packet (`ETH_HLEN`).
    @inlinable public static var headerSize: Int { 14 }
    /// The same with a VLAN tag (`VLAN_ETH_HLEN`).
    @inlinable public static var taggedHeaderSize: Int { 18 }
    /// The most bytes that a packet may have (`XEN_NETIF_MAX_TX_SIZE`).
    @inlinable public static var maximumPacketSize: Int { 0xFFFF }
    /// Slots that any backend takes for one packet (`XEN_NETIF_NR_SLOTS_MIN`); what a frontend may rely on.
    @inlinable public static var guaranteedSlots: Int { 18 }
    /// Continuation slots that a packet may have: one packet of the guaranteed slots and a first one, as Linux's
    /// netback counts.
    @inlinable public static var maximumContinuations: Int { 18 }
    /// Continuation slots from whose excess on a packet is no longer merely dropped (Linux's `fatal_skb_slots`).
    @inlinable public static var fatalContinuations: Int { 20 }
    /// Bytes of IP headers behind which any peer finds a blank checksum: Linux's drivers look no further
    /// (`MAX_IPV6_HDR_LEN` of its `skb_checksum_setup`) and drop the frame.
    @inlinable public static var blankHeaderBytes: Int { 256 }
    /// Bytes of a hash key (`XEN_NETBK_MAX_HASH_KEY_SIZE` of Linux's netback).
    public static let maximumHashKeySize = 40
    /// Entries of a hash mapping.
    public static let maximumHashMappingSize = 128
}

/// Bits of a transmit request (`NETTXF_*`).
public struct TransmitFlags: OptionSet, Hashable, Sendable, BitwiseCopyable {
    /// The bits.
    public let rawValue: UInt16
    /// Takes any bits.
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }
    /// The transport checksum holds only the pseudo header's sum.
    @inlinable public static var checksumBlank: Self { Self(rawValue: 1) }
    /// The data is known to be good.
    @inlinable public static var dataValidated: Self { Self(rawValue: 2) }
    /// The packet continues in the next request.
    @inlinable public static var moreData: Self { Self(rawValue: 4) }
    /// Extra information follows in the next slot.
    @inlinable public static var extraInfo: Self { Self(rawValue: 8) }
}

/// Bits of a receive response (`NETRXF_*`).
public struct ReceiveFlags: OptionSet, Hashable, Sendable, BitwiseCopyable {
    /// The bits.
    public let rawValue: UInt16
    /// Takes any bits.
    @inlinable public init(rawValue: UInt16) { self.rawValue = rawValue }
    /// The data is known to be good.
    @inlinable public static var dataValidated: Self { Self(rawValue: 1) }
    /// The transport checksum holds only the pseudo header's sum.
    @inlinable public static var checksumBlank: Self { Self(rawValue: 2) }
    /// The packet continues in the next response.
    @inlinable public static var moreData: Self { Self(rawValue: 4) }
    /// Extra information follows in the next slot.
    @inlinable public static var extraInfo: Self { Self(rawValue: 8) }
}

/// How a transmit request ended (`NETIF_RSP_*`).
public struct NetworkStatus: RawRepresentable, Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    /// The number; a peer may send any.
    public var rawValue: Int16
    /// Takes any bits.
    @inlinable public init(rawValue: Int16) { self.rawValue = rawValue }
    /// Not sent (`NETIF_RSP_DROPPED`).
    @inlinable public static var dropped: Self { Self(rawValue: -2) }
    /// Refused (`NETIF_RSP_ERROR`).
    @inlinable public static var error: Self { Self(rawValue: -1) }
    /// Sent (`NETIF_RSP_OKAY`).
    @inlinable public static var okay: Self { Self(rawValue: 0) }
    /// What answers a slot of extra information: no response.
    @inlinable public static var null: Self { Self(rawValue: 1) }
    /// One line.
    public var description: String {
        switch self {
        case .dropped: "dropped"
        case .error: "error"
        case .okay: "okay"
        case .null: "null"
        default: "status \(rawValue)"
        }
    }
}

/// What an extra slot says (`XEN_NETIF_EXTRA_TYPE_*`).
public enum ExtraType: UInt8, Sendable, CaseIterable {
    case segmentation = 1
    case multicastAdd = 2
    case multicastDelete = 3
    case hash = 4
    /// Linux's own, absent from Xen's header: a headroom before the data. Never sent here; known, so that it is no
    /// fault.
    case xdp = 5
}

/// How a hash is computed (`XEN_NETIF_CTRL_HASH_ALGORITHM_*`).
public enum HashAlgorithm: UInt32, Sendable {
    case none = 0
    case toeplitz = 1
}

/// What a control request asks for (`XEN_NETIF_CTRL_TYPE_*`).
public enum ControlType: UInt16, Sendable, CaseIterable {
    case getHashFlags = 1
    case setHashFlags = 2
    case setHashKey = 3
    case getHashMappingSize = 4
    case setHashMappingSize = 5
    case setHashMapping = 6
    case setHashAlgorithm = 7
    case getGrantMappingSize = 8
    case addGrantMapping = 9
    case deleteGrantMapping = 10
}

/// How a control request ended (`XEN_NETIF_CTRL_STATUS_*`).
public enum ControlStatus: UInt32, Sendable, CaseIterable {
    case success = 0
    case notSupported = 1
    case invalidParameter = 2
    case bufferOverflow = 3
}
