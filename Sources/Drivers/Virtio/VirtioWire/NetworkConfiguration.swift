// What an interface says of itself (struct virtio_net_config; linux/virtio_net.h).

/// A virtio interface's configuration space.
public struct NetworkConfiguration: WireStructure, Equatable {
    /// The address that the driver should take.
    public var mac: InlineArray<6, UInt8> = .zero
    /// `linkIsUp`, `announce`.
    public var status: UInt16 = 0
    /// The most pairs of queues.
    public var maxQueuePairs: UInt16 = 0
    /// The largest frame without its Ethernet header.
    public var mtu: UInt16 = 0
    /// In megabits a second; all ones: unknown.
    public var speed: UInt32 = 0
    /// 0 half, 1 full; 255: unknown.
    public var duplex: UInt8 = 0
    /// The most bytes of a hash's key.
    public var maxHashKeyBytes: UInt8 = 0
    /// The most entries of the table that a hash chooses a queue by.
    public var maxHashTableEntries: UInt16 = 0
    /// What can be hashed (`VIRTIO_NET_RSS_HASH_TYPE_*`).
    public var supportedHashes: UInt32 = 0

    /// In `status`: the cable is in (`VIRTIO_NET_S_LINK_UP`).
    @inlinable public static var linkIsUp: UInt16 { 1 }
    /// In `status`: the driver should announce itself (`VIRTIO_NET_S_ANNOUNCE`).
    @inlinable public static var announce: UInt16 { 2 }

    /// An interface that says nothing.
    public init() {}

    /// Whether all fields are the same.
    public static func == (one: Self, other: Self) -> Bool { one.array == other.array }

    /// Takes the bytes apart.
    public init(_ bytes: InlineArray<24, UInt8>) {
        for place in 0..<6 { mac[place] = bytes[place] }
        status = bytes.integer(at: 6)
        maxQueuePairs = bytes.integer(at: 8)
        mtu = bytes.integer(at: 10)
        speed = bytes.integer(at: 12)
        duplex = bytes.integer(at: 16)
        maxHashKeyBytes = bytes.integer(at: 17)
        maxHashTableEntries = bytes.integer(at: 18)
        supportedHashes = bytes.integer(at: 20)
    }

    /// The structure as it lies in memory.
    public var bytes: InlineArray<24, UInt8> {
        var bytes = InlineArray<24, UInt8>.zero
        for place in 0..<6 { bytes[place] = mac[place] }
        bytes.put(status, at: 6)
        bytes.put(maxQueuePairs, at: 8)
        bytes.put(mtu, at: 10)
        bytes.put(speed, at: 12)
        bytes.put(duplex, at: 16)
        bytes.put(maxHashKeyBytes, at: 17)
        bytes.put(maxHashTableEntries, at: 18)
        bytes.put(supportedHashes, at: 20)
        return bytes
    }
}
