// One ring's settings, gathered from several messages in whatever order the front end likes.

import LinuxSystem
import VirtioRing
import VirtioWire

/// All that is needed to serve a ring.
public struct VhostRingPlan: Sendable {
    /// Where to go on, as `DeviceRing.base` has it.
    public var base: UInt32
    /// Where its parts are.
    public let areas: VirtqueueAreas
    /// Where what is in flight is kept beyond this process; nil: nowhere.
    public let inflight: RingArea?
    /// Whether it goes on where a predecessor was killed: what the ring and `inflight` say counts, not `base`.
    public let recovers: Bool
    /// Whether `inflight` is this side's own memory, begun for this ring: `base` counts, for nothing is in flight.
    public let beginsInflight: Bool
    /// Where what is written is to be noted; nil: nowhere.
    public let logging: VhostLogging?
    /// Readable when the driver has something; nil: it is to be looked at without being asked, or when a message says
    /// so.
    public var kick: Descriptor?
    /// Whether messages say so (`VhostTask.kick`).
    public let isKickedByMessage: Bool
    /// Written when the device has something; nil: nobody wants to know.
    public var call: Descriptor?
    /// Written when the ring makes no sense.
    public let error: Descriptor?
    /// What is told by messages, for there is no descriptor.
    public let messages: VhostBellMessages
    /// Whether what is in flight when the ring is stopped may stay in `inflight`: who goes on does it.
    public let leavesInflight: Bool
    /// The features that the driver accepted.
    public let features: VirtioFeatures
    /// What the addresses in requests are, where the driver has an IOMMU; nil: the driver's own.
    public var translations: TranslationTable?
    /// What the addresses in requests are, where they are of another kind; made on the thread that serves the ring.
    public var chainMemory: (@Sendable () -> any ChainMemory)?
    /// Whether requests are to be served; a ring that is not looks at its kick when it is.
    public var isEnabled: Bool

    /// A ring of a driver that speaks no vhost-user: told by descriptors, its chains in memory of its own kind.
    package init(
        _ areas: VirtqueueAreas, features: VirtioFeatures, base: UInt32, kick: Descriptor?, call: Descriptor?,
        chainMemory: @escaping @Sendable () -> any ChainMemory
    ) {
        self.init(
            base: base, areas: areas, inflight: nil, logging: nil, kick: kick, isKickedByMessage: false, call: call, error: nil,
            messages: [], leavesInflight: false, features: features, translations: nil, chainMemory: chainMemory, isEnabled: true)
    }

    init(
        base: UInt32, areas: VirtqueueAreas, inflight: RingArea?, recovers: Bool = false, beginsInflight: Bool = false,
        logging: VhostLogging?, kick: Descriptor?, isKickedByMessage: Bool, call: Descriptor?, error: Descriptor?,
        messages: VhostBellMessages, leavesInflight: Bool,
        features: VirtioFeatures, translations: TranslationTable?, chainMemory: (@Sendable () -> any ChainMemory)? = nil,
        isEnabled: Bool
    ) {
        self.base = base
        self.areas = areas
        self.inflight = inflight
        self.recovers = recovers
        self.beginsInflight = beginsInflight
        self.logging = logging
        self.kick = kick
        self.isKickedByMessage = isKickedByMessage
        self.call = call
        self.error = error
        self.messages = messages
        self.leavesInflight = leavesInflight
        self.features = features
        self.translations = translations
        self.chainMemory = chainMemory
        self.isEnabled = isEnabled
    }
}

extension VhostRingPlan {
    /// A new ring of a driver that has no front end: nothing of it is kept elsewhere, and it is served at once.
    public init(areas: VirtqueueAreas, kick: Descriptor, call: Descriptor?, features: VirtioFeatures) {
        self.init(
            base: areas.isPacked ? UInt32(PackedPosition.start.rawValue) : 0, areas: areas, inflight: nil, logging: nil, kick: kick,
            isKickedByMessage: false, call: call, error: nil, messages: [], leavesInflight: false, features: features,
            translations: nil, isEnabled: true)
    }
}

/// What a front end is told by messages of this side's.
public struct VhostBellMessages: OptionSet, Sendable {
    /// The bits.
    public let rawValue: UInt8
    /// Any bits.
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// That the device has something.
    public static let call = Self(rawValue: 1)
    /// That the ring makes no sense.
    public static let error = Self(rawValue: 2)
}

/// A ring's settings so far.
struct VhostRing {
    var size: UInt32 = 0
    var base: UInt32 = 0
    var addresses: VhostRingAddresses?
    /// nil: not said; `.some(nil)`: there is none, look without being asked.
    var kick: Descriptor??
    /// Started by a message.
    var isKickedByMessage = false
    var call: Descriptor?
    var error: Descriptor?
    /// What nothing was said about, be it that nobody wants to know.
    var unsaid: VhostBellMessages = [.call, .error]
    var isEnabled = false
    var isRunning = false
    /// Where the driver has what the device writes, by the driver's addresses; of a ring that lies there in one piece.
    var place: (device: UInt64, descriptors: UInt64)?

    /// Whether all has been said.
    var isComplete: Bool { size > 0 && addresses != nil && (isKickedByMessage || kick != nil) }

    /// A ring that was stopped wants a new kick before it runs again.
    mutating func stop() {
        isRunning = false
        kick = nil
        isKickedByMessage = false
    }

    /// As at the beginning, but for the descriptors that QEMU sends once and not again after a reset.
    mutating func reset() {
        var fresh = VhostRing()
        (fresh.call, fresh.error, fresh.unsaid) = (call, error, unsaid)
        self = fresh
    }

    /// The plan, its addresses looked up; nil: something is missing.
    /// - Throws: `VirtqueueError` for a ring that cannot be where it is said to be.
    func plan(
        in memory: some GuestMemory, _ features: VirtioFeatures, _ protocolFeatures: VhostProtocolFeatures = [],
        inflight: RingArea? = nil, own: RingArea? = nil, recovers: Bool = false, logging: VhostLogging? = nil,
        translations: TranslationTable? = nil
    ) throws(VirtqueueError) -> VhostRingPlan? {
        guard isComplete, let addresses else { return nil }
        let areas = try VirtqueueAreas(
            size: Int(size), descriptors: addresses.descriptors, driver: addresses.available, device: addresses.used,
            features: features, in: memory)
        return VhostRingPlan(
            base: base, areas: areas, inflight: inflight ?? own, recovers: recovers,
            beginsInflight: inflight == nil && own != nil && !recovers, logging: logging, kick: kick ?? nil,
            isKickedByMessage: isKickedByMessage, call: call, error: error,
            messages: protocolFeatures.contains(.inBandNotifications) ? unsaid : [],
            leavesInflight: protocolFeatures.contains(.inflightAtStop) && inflight != nil, features: features,
            translations: translations, isEnabled: isEnabled)
    }
}
