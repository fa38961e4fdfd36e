// What a vbd backend says first, in state 2: how much a frontend may ask for (xen/io/blkif.h).

import XenBus
import XenStore

/// Limits of a block backend, published before the frontend chooses.
public struct BlockOffer: Equatable, Sendable {
    /// Segments that one indirect request may have; 0: no indirect requests (`feature-max-indirect-segments`).
    public var indirectSegments: UInt32
    /// Queues that a frontend may ask for (`multi-queue-max-queues`).
    public var queues: UInt32
    /// Largest order of ring pages, 0 to 5 (`max-ring-page-order`).
    public var ringPageOrder: UInt32

    /// The protocol's ceiling: 8 indirect pages of 512 segments.
    public static let mostIndirectSegments: UInt32 = 4096
    /// 32 ring pages.
    public static let mostRingPageOrder: UInt32 = 5
    /// What we are ready to believe of a peer.
    public static let mostQueues: UInt32 = 256

    /// The offer of a backend.
    public init(indirectSegments: UInt32, queues: UInt32, ringPageOrder: UInt32) {
        self.indirectSegments = min(indirectSegments, Self.mostIndirectSegments)
        self.queues = max(1, min(queues, Self.mostQueues))
        self.ringPageOrder = min(ringPageOrder, Self.mostRingPageOrder)
    }

    /// Writes the offer into a backend's directory. A limit that is the protocol's default is left out, and removed if
    /// an earlier connection had it.
    public func write(to store: some StoreAccess, at path: String) throws(XenbusError) {
        if indirectSegments > 11 {
            try store.put("\(path)/feature-max-indirect-segments", indirectSegments)
        } else {
            try store.discardNode("\(path)/feature-max-indirect-segments")
        }
        try store.put("\(path)/multi-queue-max-queues", queues)
        try store.put("\(path)/max-ring-page-order", ringPageOrder)
        // The older name for the same limit, in pages, which Citrix's and some Windows frontends read.
        try store.put("\(path)/max-ring-pages", 1 << ringPageOrder)
    }

    /// Reads a backend's offer. A value of 11 or less segments is no offer (Linux blkfront); what is missing is the
    /// default; what is absurd is capped, since the frontend chooses anyway.
    public static func read(from store: some StoreAccess, at path: String) throws(XenbusError) -> BlockOffer {
        let segments = try store.number("\(path)/feature-max-indirect-segments", in: 0...UInt32.max) ?? 0
        let queues = try store.number("\(path)/multi-queue-max-queues", in: 1...UInt32.max) ?? 1
        var order = try store.number("\(path)/max-ring-page-order", in: 0...UInt32.max)
        if order == nil, let pages = try store.number("\(path)/max-ring-pages", in: 1...UInt32.max) {
            order = UInt32(31 - pages.leadingZeroBitCount)
        }
        return BlockOffer(indirectSegments: segments <= 11 ? 0 : segments, queues: queues, ringPageOrder: order ?? 0)
    }
}
