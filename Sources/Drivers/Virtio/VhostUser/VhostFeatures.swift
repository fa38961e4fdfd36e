// What the two ends of a vhost-user socket agree on beside the device's own features.

import VirtioWire

/// Features of the protocol itself (`VHOST_USER_PROTOCOL_F_*`), of which only those both ends know are used.
public struct VhostProtocolFeatures: OptionSet, Hashable, Sendable, CustomStringConvertible {
    /// The word as it is negotiated.
    public let rawValue: UInt64
    /// Any word.
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    private init(bit: UInt64) { rawValue = 1 << bit }

    /// The front end may ask how many queues there are.
    public static let multipleQueues = Self(bit: 0)
    /// The log of dirty pages comes as a descriptor.
    public static let sharedLog = Self(bit: 1)
    /// An interface is announced when the front end says so.
    public static let announcement = Self(bit: 2)
    /// A message may ask to be acknowledged.
    public static let replyAck = Self(bit: 3)
    /// The front end sets an interface's MTU.
    public static let mtu = Self(bit: 4)
    /// There is a socket for the back end's own messages.
    public static let backendRequests = Self(bit: 5)
    /// The device's configuration space is the back end's.
    public static let configuration = Self(bit: 9)
    /// What is in flight is kept in memory that outlives the back end.
    public static let inflightMemory = Self(bit: 12)
    /// The device can be reset by a message.
    public static let resetDevice = Self(bit: 13)
    /// Signals are messages instead of descriptors; needs `replyAck` and `backendRequests`.
    public static let inBandNotifications = Self(bit: 14)
    /// Memory comes and goes region by region.
    public static let memorySlots = Self(bit: 15)
    /// The driver's status is passed on.
    public static let status = Self(bit: 16)
    /// The device's state goes through a pipe when a guest migrates.
    public static let deviceState = Self(bit: 19)
    /// A ring may be stopped with requests in flight; needs `inflightMemory`.
    public static let inflightAtStop = Self(bit: 20)

    /// What these cannot be without.
    var needed: Self {
        var needed: Self = []
        if contains(.inBandNotifications) { needed.formUnion([.replyAck, .backendRequests]) }
        if contains(.inflightAtStop) { needed.insert(.inflightMemory) }
        return needed
    }

    /// `protocol features 0x8f2b`.
    public var description: String { "protocol features 0x\(String(rawValue, radix: 16))" }
}

extension VirtioFeatures {
    /// All writes of the device are logged (`VHOST_F_LOG_ALL`, bit 26). Never the driver's to accept.
    public static var logAll: Self { Self(bit: 26) }
    /// The protocol has features of its own (`VHOST_USER_F_PROTOCOL_FEATURES`, bit 30). Likewise.
    public static var protocolFeatures: Self { Self(bit: 30) }
}
