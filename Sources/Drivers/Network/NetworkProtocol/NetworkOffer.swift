// What a vif backend says first, in state 2: how much a frontend may ask for and what it may send (xen/io/netif.h).

import XenBus
import XenStore

/// What one side of a vif can take from the other. Both sides publish one, each for what it receives.
public struct NetworkFeatures: OptionSet, Hashable, Sendable, CustomStringConvertible {
    /// The bits; this library's own, not the protocol's.
    public let rawValue: UInt32
    /// Takes any bits.
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// Packets of several slots (`feature-sg`).
    public static let scatterGather = NetworkFeatures(rawValue: 1)
    /// TCP over IPv4 in large packets (`feature-gso-tcpv4`).
    public static let tcp4 = NetworkFeatures(rawValue: 2)
    /// TCP over IPv6 in large packets (`feature-gso-tcpv6`).
    public static let tcp6 = NetworkFeatures(rawValue: 4)
    /// Blank checksums over IPv4 (on unless `feature-no-csum-offload` is 1).
    public static let checksum4 = NetworkFeatures(rawValue: 8)
    /// Blank checksums over IPv6 (`feature-ipv6-csum-offload`).
    public static let checksum6 = NetworkFeatures(rawValue: 16)
    /// All of them.
    public static let all: NetworkFeatures = [.scatterGather, .tcp4, .tcp6, .checksum4, .checksum6]

    private static let nodes: [(NetworkFeatures, String)] = [
        (.scatterGather, "feature-sg"), (.tcp4, "feature-gso-tcpv4"), (.tcp6, "feature-gso-tcpv6"),
        (.checksum6, "feature-ipv6-csum-offload"),
    ]

    /// What makes sense together: segments of large packets need several slots and their checksums filled in (Linux's
    /// netback and netfront say so, too).
    public var consistent: NetworkFeatures {
        var set = self
        if !contains(.scatterGather) { set.subtract([.tcp4, .tcp6]) }
        if !contains(.checksum4) { set.remove(.tcp4) }
        if !contains(.checksum6) { set.remove(.tcp6) }
        return set
    }

    /// The largest MTU whose frames whoever has these features takes: what one slot's page holds, or what a packet's
    /// length can say, with an Ethernet header and a VLAN tag (as Linux's netback counts them).
    public var mostMTU: Int {
        (contains(.scatterGather) ? NetworkLimits.maximumPacketSize : NetworkLimits.pageSize) - NetworkLimits.taggedHeaderSize
    }

    /// Pages that a frame may need which whoever has these features takes.
    /// - Parameter mtu: of the device that frames come from.
    public func pages(forMTU mtu: Int) -> Int {
        if !contains(.scatterGather) { return 1 }
        // A device gives an Ethernet header more than a packet may have: it is dropped, not cut off.
        let most = (NetworkLimits.maximumPacketSize + NetworkLimits.headerSize) / NetworkLimits.pageSize + 1
        if !isDisjoint(with: [.tcp4, .tcp6]) { return most }
        let frame = mtu + NetworkLimits.taggedHeaderSize
        // Three hold what is usually large.
        return min(most, max(3, (frame + NetworkLimits.pageSize - 1) / NetworkLimits.pageSize))
    }

    /// Writes every node, so that nothing of an earlier connection stays.
    public func write(to store: some StoreAccess, at path: String) throws(XenbusError) {
        for (feature, name) in Self.nodes { try store.put("\(path)/\(name)", contains(feature) ? 1 : 0) }
        if contains(.checksum4) {
            try store.discardNode("\(path)/feature-no-csum-offload")
        } else {
            try store.put("\(path)/feature-no-csum-offload", 1)
        }
    }

    /// Reads a peer's nodes; what makes no sense together is not believed.
    public static func read(from store: some StoreAccess, at path: String) throws(XenbusError) -> NetworkFeatures {
        var set: NetworkFeatures = []
        for (feature, name) in nodes where try store.flag("\(path)/\(name)") { set.insert(feature) }
        if try !store.flag("\(path)/feature-no-csum-offload") { set.insert(.checksum4) }
        return set.consistent
    }

    /// `sg tcp4 csum4`.
    public var description: String {
        let names = ["sg", "tcp4", "tcp6", "csum4", "csum6"]
        return names.indices.filter { rawValue & 1 << UInt32($0) != 0 }.map { names[$0] }.joined(separator: " ")
    }
}

/// What a vif backend offers.
public struct NetworkOffer: Equatable, Sendable {
    /// What it takes from the frontend.
    public var features: NetworkFeatures
    /// Queues that a frontend may ask for (`multi-queue-max-queues`).
    public var queues: UInt32
    /// Whether each direction may have a doorbell of its own (`feature-split-event-channels`).
    public var splitChannels: Bool
    /// Whether there is a control ring (`feature-ctrl-ring`).
    public var controlRing: Bool
    /// Whether multicast addresses can be asked for (`feature-multicast-control`, and its dynamic form).
    public var multicastControl: Bool

    /// What we are ready to believe of a peer.
    public static let mostQueues: UInt32 = 64

    /// An offer.
    public init(
        features: NetworkFeatures = .all, queues: UInt32 = 1, splitChannels: Bool = true, controlRing: Bool = true,
        multicastControl: Bool = true
    ) {
        self.features = features.consistent
        self.queues = max(1, min(queues, Self.mostQueues))
        self.splitChannels = splitChannels
        self.controlRing = controlRing
        self.multicastControl = multicastControl
    }

    /// Writes the offer into a backend's directory.
    public func write(to store: some StoreAccess, at path: String) throws(XenbusError) {
        try features.write(to: store, at: path)
        try store.put("\(path)/feature-rx-copy", 1)
        try store.put("\(path)/feature-rx-flip", 0)
        try store.put("\(path)/feature-split-event-channels", splitChannels ? 1 : 0)
        try store.put("\(path)/multi-queue-max-queues", queues)
        try store.put("\(path)/feature-ctrl-ring", controlRing ? 1 : 0)
        try store.put("\(path)/feature-multicast-control", multicastControl ? 1 : 0)
        try store.put("\(path)/feature-dynamic-multicast-control", multicastControl ? 1 : 0)
    }

    /// Reads a backend's offer. One that does not copy into our pages is of no use: nobody flips pages any more.
    public static func read(from store: some StoreAccess, at path: String) throws(XenbusError) -> NetworkOffer {
        guard try store.flag("\(path)/feature-rx-copy") else {
            throw .malformed(MalformedNode("\(path)/feature-rx-copy", "is not 1; this frontend knows no other way to receive"))
        }
        return NetworkOffer(
            features: try .read(from: store, at: path),
            queues: try store.number("\(path)/multi-queue-max-queues", in: 1...UInt32.max) ?? 1,
            splitChannels: try store.flag("\(path)/feature-split-event-channels"),
            controlRing: try store.flag("\(path)/feature-ctrl-ring"),
            multicastControl: try store.flag("\(path)/feature-multicast-control"))
    }
}
