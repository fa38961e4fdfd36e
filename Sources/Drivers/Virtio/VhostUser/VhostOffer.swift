// What a front end is offered: the device's features and the protocol's, and how many rings.

import VirtioWire

/// What a device offers to a front end.
public struct VhostOffer: Sendable {
    /// The device's own features, and those of its rings.
    public var features: VirtioFeatures
    /// The protocol's.
    public var protocolFeatures: VhostProtocolFeatures
    /// Rings; of an interface two for each queue.
    public var rings: Int
    /// What a front end that asks is told: a disk's rings, an interface's pairs of them.
    public var queues: Int
    /// Entries of a ring at most.
    public var mostEntries: UInt32

    /// - Parameters:
    ///   - rings: as many as the device may have, 1 to 256.
    ///   - ringsPerQueue: 2 for an interface.
    public init(
        features: VirtioFeatures, protocolFeatures: VhostProtocolFeatures, rings: Int, ringsPerQueue: Int = 1,
        mostEntries: UInt32 = 32768
    ) {
        self.features = features
        self.protocolFeatures = protocolFeatures
        self.rings = rings
        queues = rings / ringsPerQueue
        self.mostEntries = mostEntries
    }
}
