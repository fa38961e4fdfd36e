// What a vif frontend publishes before state 4: its rings and what it can take (Docs/network-protocol.md, "Keys in the
// store").

import XenBus
import XenStore
import XenTypes

/// One queue's rings and doorbells.
public struct NetworkQueueKeys: Equatable, Sendable {
    /// The transmit ring's page.
    public var transmit: GrantReference
    /// The receive ring's page.
    public var receive: GrantReference
    /// The port of the transmit ring, or of both rings.
    public var port: EventPort
    /// The receive ring's own port; nil: `port` serves both.
    public var receivePort: EventPort?

    /// One queue's keys.
    public init(transmit: GrantReference, receive: GrantReference, port: EventPort, receivePort: EventPort? = nil) {
        self.transmit = transmit
        self.receive = receive
        self.port = port
        self.receivePort = receivePort
    }
}

/// The control ring's page and port.
public struct ControlKeys: Equatable, Sendable {
    /// The ring's page.
    public var ring: GrantReference
    /// Where it is rung.
    public var port: EventPort
    /// The control ring's keys.
    public init(ring: GrantReference, port: EventPort) {
        self.ring = ring
        self.port = port
    }
}

/// A frontend's side of the handshake.
public struct NetworkRequestKeys: Equatable, Sendable {
    /// At least one.
    public var queues: [NetworkQueueKeys]
    /// The control ring; nil if there is none.
    public var control: ControlKeys?
    /// What the frontend takes from the backend.
    public var features: NetworkFeatures
    /// Whether the frontend rings when it has posted pages (`feature-rx-notify`).
    public var notifiesReceive: Bool
    /// Whether it will say which multicast addresses it wants (`request-multicast-control`).
    public var multicastControl: Bool

    /// All that a frontend asks for.
    public init(
        queues: [NetworkQueueKeys], control: ControlKeys? = nil, features: NetworkFeatures = .all, notifiesReceive: Bool = true,
        multicastControl: Bool = false
    ) {
        self.queues = queues
        self.control = control
        self.features = features.consistent
        self.notifiesReceive = notifiesReceive
        self.multicastControl = multicastControl
    }

    private static let ours = [
        "tx-ring-ref", "rx-ring-ref", "event-channel", "event-channel-tx", "event-channel-rx", "multi-queue-num-queues",
        "ctrl-ring-ref", "event-channel-ctrl", "xdp-headroom",
    ]

    /// Writes the keys into a frontend's directory; keys of an earlier connection that would mean something else are
    /// removed first. Call inside a transaction.
    public func write(to store: some StoreAccess, at path: String, manyQueuesOffered: Bool) throws(XenbusError) {
        for name in try store.names(path) where Self.ours.contains(name) || name.hasPrefix("queue-") {
            try store.discardNode("\(path)/\(name)")
        }
        if manyQueuesOffered { try store.put("\(path)/multi-queue-num-queues", queues.count) }
        for (index, queue) in queues.enumerated() {
            let base = queues.count > 1 ? "\(path)/queue-\(index)" : path
            try store.put("\(base)/tx-ring-ref", queue.transmit)
            try store.put("\(base)/rx-ring-ref", queue.receive)
            if let receivePort = queue.receivePort {
                try store.put("\(base)/event-channel-tx", queue.port)
                try store.put("\(base)/event-channel-rx", receivePort)
            } else {
                try store.put("\(base)/event-channel", queue.port)
            }
        }
        if let control {
            try store.put("\(path)/ctrl-ring-ref", control.ring)
            try store.put("\(path)/event-channel-ctrl", control.port)
        }
        try store.put("\(path)/request-rx-copy", 1)
        try store.put("\(path)/feature-rx-notify", notifiesReceive ? 1 : 0)
        try store.put("\(path)/request-multicast-control", multicastControl ? 1 : 0)
        try features.write(to: store, at: path)
    }

    /// Reads a frontend's keys, none beyond `offer` (attacks.md B16, B29).
    public static func read(
        from store: some StoreAccess, at path: String, offer: NetworkOffer
    ) throws(XenbusError) -> NetworkRequestKeys {
        // Missing means yes: Linux's netback asks no frontend for it.
        guard try store.flag("\(path)/request-rx-copy", default: true) else {
            throw .malformed(MalformedNode("\(path)/request-rx-copy", "is not 1; packets can only be copied"))
        }
        let count = try store.number("\(path)/multi-queue-num-queues", in: 1...offer.queues) ?? 1
        var queues: [NetworkQueueKeys] = []
        for index in 0..<count {
            let base = count > 1 ? "\(path)/queue-\(index)" : path
            let transmit: UInt32 = try store.requiredNumber("\(base)/tx-ring-ref", in: 0...UInt32.max)
            let receive: UInt32 = try store.requiredNumber("\(base)/rx-ring-ref", in: 0...UInt32.max)
            let ports: (UInt32, UInt32?)
            if offer.splitChannels, try store.text("\(base)/event-channel-tx") != nil {
                ports = (
                    try store.requiredNumber("\(base)/event-channel-tx", in: 1...UInt32.max),
                    try store.requiredNumber("\(base)/event-channel-rx", in: 1...UInt32.max)
                )
            } else {
                ports = (try store.requiredNumber("\(base)/event-channel", in: 1...UInt32.max), nil)
            }
            queues.append(
                NetworkQueueKeys(
                    transmit: GrantReference(transmit), receive: GrantReference(receive), port: EventPort(ports.0),
                    receivePort: ports.1.map { EventPort($0) }))
        }
        var control: ControlKeys?
        if offer.controlRing, let ring = try store.number("\(path)/ctrl-ring-ref", in: 0...UInt32.max) {
            control = ControlKeys(
                ring: GrantReference(ring),
                port: EventPort(try store.requiredNumber("\(path)/event-channel-ctrl", in: 1...UInt32.max)))
        }
        return NetworkRequestKeys(
            queues: queues, control: control, features: try .read(from: store, at: path),
            notifiesReceive: try store.flag("\(path)/feature-rx-notify"),
            multicastControl: offer.multicastControl ? try store.flag("\(path)/request-multicast-control") : false)
    }
}
