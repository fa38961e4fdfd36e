// What a vbd frontend publishes before state 3: its rings and what it wants (Docs/block-protocol.md, "Coming up").

import XenBus
import XenStore
import XenTypes

/// One queue's ring and doorbell.
public struct QueueKeys: Equatable, Sendable {
    /// The ring's pages in order, 2^order of them.
    public var ring: [GrantReference]
    /// The port that the backend binds to.
    public var port: EventPort

    /// A queue of `ring` with `port`.
    public init(ring: [GrantReference], port: EventPort) {
        self.ring = ring
        self.port = port
    }
}

/// A frontend's side of the handshake.
public struct BlockRequestKeys: Equatable, Sendable {
    /// The `protocol` node as it stands; nil where it is missing.
    public var abi: String?
    /// Whether grants stay mapped (`feature-persistent`).
    public var persistent: Bool
    /// At least one; all rings have the same order.
    public var queues: [QueueKeys]

    /// The keys of a frontend.
    public init(abi: String?, persistent: Bool, queues: [QueueKeys]) {
        self.abi = abi
        self.persistent = persistent
        self.queues = queues
    }

    /// Writes the keys into a frontend's directory; keys of an earlier connection that would mean something else are
    /// removed first. Call inside a transaction.
    public func write(to store: some StoreAccess, at path: String) throws(XenbusError) {
        for name in try store.names(path) where Self.isOurs(name) { try store.discardNode("\(path)/\(name)") }
        let order = queues[0].ring.count.trailingZeroBitCount
        // Linux leaves the order out for a single page, and its backend takes even "0" to mean `ring-ref0`.
        if order > 0 { try store.put("\(path)/ring-page-order", order) }
        if order > 0 { try store.put("\(path)/num-ring-pages", 1 << order) }
        if queues.count > 1 { try store.put("\(path)/multi-queue-num-queues", queues.count) }
        for (index, queue) in queues.enumerated() {
            let base = queues.count > 1 ? "\(path)/queue-\(index)" : path
            if order == 0 {
                try store.put("\(base)/ring-ref", queue.ring[0])
            } else {
                for (page, reference) in queue.ring.enumerated() { try store.put("\(base)/ring-ref\(page)", reference) }
            }
            try store.put("\(base)/event-channel", queue.port)
        }
        if let abi { try store.put("\(path)/protocol", abi) }
        try store.put("\(path)/feature-persistent", persistent ? 1 : 0)
    }

    private static func isOurs(_ name: String) -> Bool {
        name == "ring-page-order" || name == "num-ring-pages" || name == "multi-queue-num-queues" || name == "event-channel"
            || name.hasPrefix("ring-ref") || name.hasPrefix("queue-")
    }

    /// Reads a frontend's keys, none beyond `offer`: a frontend that asks for more is refused before anything is
    /// allocated or read for it (attacks.md A15, A16).
    public static func read(
        from store: some StoreAccess, at path: String, offer: BlockOffer
    ) throws(XenbusError) -> BlockRequestKeys {
        let queueCount = try store.number("\(path)/multi-queue-num-queues", in: 1...offer.queues) ?? 1
        var order = try store.number("\(path)/ring-page-order", in: 0...offer.ringPageOrder)
        if order == nil, let pages = try store.number("\(path)/num-ring-pages", in: 1...(UInt32(1) << offer.ringPageOrder)) {
            guard pages.nonzeroBitCount == 1 else {
                throw .malformed(MalformedNode("\(path)/num-ring-pages", "is \(pages), not a power of two"))
            }
            order = UInt32(pages.trailingZeroBitCount)
        }
        var queues: [QueueKeys] = []
        for index in 0..<queueCount {
            let base = queueCount > 1 ? "\(path)/queue-\(index)" : path
            var ring: [GrantReference] = []
            if let order, order > 0 {
                for page in 0..<(UInt32(1) << order) {
                    ring.append(GrantReference(try store.requiredNumber("\(base)/ring-ref\(page)", in: 0...UInt32.max)))
                }
            } else if order == 0, let reference = try store.number("\(base)/ring-ref0", in: 0...UInt32.max) {
                // A frontend that writes the order as 0 names its page in either way.
                ring.append(GrantReference(reference))
            } else {
                ring.append(GrantReference(try store.requiredNumber("\(base)/ring-ref", in: 0...UInt32.max)))
            }
            let port = try store.requiredNumber("\(base)/event-channel", in: 1...UInt32.max)
            queues.append(QueueKeys(ring: ring, port: EventPort(port)))
        }
        return BlockRequestKeys(
            abi: try store.text("\(path)/protocol"), persistent: try store.flag("\(path)/feature-persistent"), queues: queues)
    }
}
