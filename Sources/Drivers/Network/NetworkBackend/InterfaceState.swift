// What the queues of one interface on one thread share. Every such group has its own, so that no queue ever sees half a
// change: it is replaced between two turns, by a job on the group's thread. On that thread.

import LinuxSystem
import NetworkProtocol
import Packets
import SharedMemory

/// What one frontend has asked for, as one group of its queues knows it.
final class InterfaceState {
    /// What the frontend takes.
    let features: NetworkFeatures
    /// The same, as far as single frames go.
    let abilities: PeerAbilities
    /// Pages that a frame of the device's may need, by its MTU when the frontend connected.
    let plainPages: Int
    /// Of the whole interface.
    let queueCount: Int
    /// Multicast frames that the frontend wants.
    private(set) var multicast: MulticastFilter
    /// How frames for the frontend are spread over queues.
    private(set) var scaling = ReceiveSideScaling()
    private let shared: SharedInterfaceState
    private let group: Int

    /// What was dropped of what the frontend sent, on all of its queues, and of what was for it.
    let (transmitDrops, receiveDrops): (DropCounter, DropCounter)

    /// How much the frontend may send, over all of the interface's queues.
    var credit: SharedCredit { shared.credit }

    /// Gives a frame to another queue; false if that cannot take it.
    var steer: (GuestReceive.Frame, SharedRegion, _ offset: Int, _ target: Int) -> Bool = { _, _, _, _ in false }
    /// Tells other groups that the frontend wants something else.
    var tellOthers: ([Int]) -> Void = { _ in }

    /// Of these queues, those whose frontend posts no pages.
    var stalledQueues = 0 {
        didSet { if (oldValue == 0) != (stalledQueues == 0) { shared.setStalled(stalledQueues > 0) } }
    }

    init(
        _ keys: NetworkRequestKeys, _ features: NetworkFeatures, _ shared: SharedInterfaceState? = nil, group: Int = 0,
        mtu: Int = NetworkSettings.usualMTU
    ) {
        self.group = group
        plainPages = features.pages(forMTU: mtu)
        self.features = features
        queueCount = keys.queues.count
        abilities = features.abilities
        self.shared =
            shared ?? SharedInterfaceState(MulticastStart(filter: MulticastFilter(isOn: keys.multicastControl), journal: nil))
        (transmitDrops, receiveDrops) = (self.shared.transmitDrops, self.shared.receiveDrops)
        multicast = self.shared.multicast.separate
    }

    /// Adds or removes an address; false if there are too many, or it is no group's. These queues know it at once, the
    /// others soon.
    func setMulticast(_ address: MACAddress, isAdded: Bool) -> Bool {
        let change = shared.changeMulticast(by: group) { $0.set(address, isAdded: isAdded) }
        if let filter = change.filter { take(filter) }
        if !change.others.isEmpty { tellOthers(change.others) }
        return change.result
    }

    /// From now on the frontend wants these multicast frames.
    func take(_ filter: MulticastFilter) { multicast = filter.separate }

    /// From now on frames are spread like this.
    func take(_ scaling: ReceiveSideScaling) { self.scaling = scaling.separate }
}

/// The control ring's settings: which hash, over what, and which queue each of its values means (xen/io/netif.h).
struct ReceiveSideScaling: Equatable, Sendable {
    var algorithm = HashAlgorithm.none
    var types: HashTypes = []
    var toeplitz = ToeplitzHash(key: [])
    /// Queues by the hash's remainder; empty: none.
    var mapping: [UInt32] = []

    var isActive: Bool { algorithm == .toeplitz && !types.isEmpty }

    /// The queue for a hash; an entry that names a queue that is not there any more means the first
    /// (protocol-rules.md 41).
    func queue(_ hash: UInt32, of count: Int) -> Int {
        guard !mapping.isEmpty else { return Int(hash % UInt32(count)) }
        let queue = Int(mapping[Int(hash % UInt32(mapping.count))])
        return queue < count ? queue : 0
    }

    /// The same in memory of its own: copies that share theirs count their references in one place, which threads would
    /// pass to and fro for each frame.
    var separate: ReceiveSideScaling {
        var copy = self
        copy.toeplitz = ToeplitzHash(key: toeplitz.key.map { $0 })
        copy.mapping = mapping.map { $0 }
        return copy
    }
}
