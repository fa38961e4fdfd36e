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
    /// Frames for groups that the frontend wants.
    private(set) var multicast: MulticastWishes
    /// Where these are written down; nil: nowhere.
    private var multicastJournal: MulticastJournal?
    /// How frames for the frontend are spread over queues.
    var spreading = HashSpreading()

    /// Gives a frame to another queue; false if that cannot take it.
    var handOver: (ReceiveCore.Frame, SharedRegion, _ offset: Int, _ target: Int) -> Bool = { _, _, _, _ in false }

    /// Queues whose frontend posts no pages. While there is one the interface has no carrier, so that senders notice.
    var stalledQueues = 0 {
        didSet { if (oldValue == 0) != (stalledQueues == 0) { setCarrier(stalledQueues == 0) } }
    }
    var setCarrier: (Bool) -> Void = { _ in }

    init(_ keys: NetworkRequestKeys, _ features: NetworkFeatures, _ multicast: MulticastStart? = nil) {
        self.features = features
        queueCount = keys.queues.count
        self.multicast = multicast?.wishes ?? MulticastWishes(isOn: keys.multicastControl)
        multicastJournal = multicast?.journal
        abilities = features.abilities
    }

    /// The frontend changed its mind about whether all multicast frames are to come (`feature-dynamic-multicast-control`).
    func setMulticastControl(_ isOn: Bool) {
        change { wishes in
            wishes.setControl(isOn)
            return true
        }
    }

    /// Adds or removes an address; false if there are too many, or it is no group's.
    func setMulticast(_ address: MACAddress, isAdded: Bool) -> Bool { change { $0.set(address, isAdded: isAdded) } }

    /// Written down before the request counts as taken: see MulticastJournal.
    @discardableResult
    private func change(_ body: (inout MulticastWishes) -> Bool) -> Bool {
        var wishes = multicast
        let result = body(&wishes)
        if wishes != multicast {
            multicastJournal?.changed(wishes)
            multicast = wishes
        }
        return result
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
