// What all queues of one interface share. On their reactor's thread.

import DriverSupport
import Packets
import SharedMemory
import XenBus
import XenWire

/// What one frontend has asked for.
final class InterfaceState {
    /// What the frontend takes.
    let features: NetworkFeatures
    /// The same, as far as single frames go.
    let abilities: PeerAbilities
    let queueCount: Int
    /// Multicast addresses that the frontend wants; nil: all.
    var wanted: Set<UInt64>?
    /// The list of a predecessor is not known: all come through, and changes are only noted.
    private let forwardsAll: Bool
    /// How frames for the frontend are spread over queues.
    var spreading = HashSpreading()

    /// Gives a frame to another queue; false if that cannot take it.
    var handOver: (ReceiveCore.Frame, SharedRegion, _ offset: Int, _ target: Int) -> Bool = { _, _, _, _ in false }

    /// Queues whose frontend posts no pages. While there is one the interface has no carrier, so that senders notice.
    var stalledQueues = 0 {
        didSet { if (oldValue == 0) != (stalledQueues == 0) { setCarrier(stalledQueues == 0) } }
    }
    var setCarrier: (Bool) -> Void = { _ in }

    static let mostMulticastAddresses = 64

    init(_ keys: NetworkRequestKeys, _ features: NetworkFeatures, isAdopted: Bool = false) {
        forwardsAll = isAdopted
        self.features = features
        queueCount = keys.queues.count
        wanted = keys.multicastControl ? [] : nil
        abilities = features.abilities
    }

    /// The frontend changed its mind about whether all multicast frames are to come (`feature-dynamic-multicast-control`).
    func setMulticastControl(_ isOn: Bool) {
        if isOn != (wanted != nil) { wanted = isOn ? [] : nil }
    }

    /// Adds or removes an address; false if there are too many, or it is no group's.
    func setMulticast(_ address: MACAddress, isAdded: Bool) -> Bool {
        guard wanted != nil, address.isMulticast else { return false }
        if !isAdded {
            wanted?.remove(address.littleEndian)
            return true
        }
        guard wanted?.contains(address.littleEndian) == true || (wanted?.count ?? 0) < Self.mostMulticastAddresses else {
            return false
        }
        wanted?.insert(address.littleEndian)
        return true
    }

    /// Whether the frontend wants frames for `address`.
    @inline(__always)
    func wants(_ address: MACAddress) -> Bool {
        guard let wanted, !forwardsAll, address.isMulticast, address != .broadcast else { return true }
        return wanted.contains(address.littleEndian)
    }
}

/// The control ring's settings: which hash, over what, and which queue each of its values means (xen/io/netif.h).
struct HashSpreading: Equatable, Sendable {
    var algorithm = HashAlgorithm.none
    var types: HashTypes = []
    var toeplitz = ToeplitzHash(key: [])
    /// Queues by the hash's remainder; empty: none.
    var mapping: [UInt32] = []

    var isActive: Bool { algorithm == .toeplitz && !types.isEmpty }

    /// The queue for a hash; an entry that names a queue that is not there any more means the first (item 41).
    func queue(_ hash: UInt32, of count: Int) -> Int {
        guard !mapping.isEmpty else { return Int(hash % UInt32(count)) }
        let queue = Int(mapping[Int(hash % UInt32(mapping.count))])
        return queue < count ? queue : 0
    }
}
