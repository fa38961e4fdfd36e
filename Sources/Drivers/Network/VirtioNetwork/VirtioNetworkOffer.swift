// What an interface is to a virtio driver and to its front end.

import NetworkDevices
import VhostUser
import VirtioWire

/// An interface as its drivers see it. Its address, its link and its control queue are the front end's.
struct VirtioNetworkOffer: Sendable {
    /// Pairs of rings that a driver may use: 2i receives, 2i + 1 sends.
    let pairs: Int

    /// What is offered. Congestion marks (ECN) are not: no device here carries them.
    var offer: VhostOffer {
        typealias Network = VirtioFeatures.Network
        return VhostOffer(
            features: [
                .version1, .eventIndex, .indirectDescriptors, .packedRing, .accessPlatform,
                Network.checksum, Network.hostTSO4, Network.hostTSO6,
                Network.guestChecksum, Network.guestTSO4, Network.guestTSO6, Network.mergeableBuffers,
                // Of these a front end tells its driver only if the back end has them, too.
                Network.mtu, Network.multiQueue, Network.guestAnnounce,
            ],
            // The back end's own messages are for drivers behind an IOMMU.
            protocolFeatures: [
                .multipleQueues, .announcement, .replyAck, .mtu, .backendRequests, .resetDevice, .memorySlots, .status,
                .deviceState,
            ],
            rings: 2 * pairs, ringsPerQueue: 2, mostEntries: 1024)
    }
}
