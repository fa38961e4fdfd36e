// A front end's message, taken apart: a closed type, so that what follows needs no look at lengths or descriptors.

import LinuxSystem
import VirtioWire

/// Memory of the guest's as the front end describes it: three names for the same bytes.
public struct VhostRegion: Equatable, Sendable {
    /// Where the guest sees it.
    public var guestAddress: UInt64
    /// Bytes.
    public var byteCount: UInt64
    /// Where the front end sees it: rings are named so.
    public var userAddress: UInt64
    /// Where it begins in the descriptor's file.
    public var fileOffset: UInt64

    /// The four numbers.
    public init(guestAddress: UInt64, byteCount: UInt64, userAddress: UInt64, fileOffset: UInt64) {
        self.guestAddress = guestAddress
        self.byteCount = byteCount
        self.userAddress = userAddress
        self.fileOffset = fileOffset
    }
}

/// Where a ring's parts are, in the front end's own addresses.
public struct VhostRingAddresses: Equatable, Sendable {
    /// Descriptors, or a packed ring.
    public var descriptors: UInt64
    /// What the driver writes.
    public var available: UInt64
    /// What the device writes.
    public var used: UInt64
    /// Where in the guest the used part is logged; nil: it is not.
    public var log: UInt64?

    /// The addresses.
    public init(descriptors: UInt64, available: UInt64, used: UInt64, log: UInt64? = nil) {
        self.descriptors = descriptors
        self.available = available
        self.used = used
        self.log = log
    }
}

/// An IO address that came, went, or was missed (`vhost_iotlb_msg`).
public struct VhostTranslation: Equatable, Sendable {
    /// What happened to it.
    public enum Kind: UInt8, Sendable {
        case miss = 1
        case update = 2
        case invalidate = 3
        case fail = 4
    }

    /// The device's address.
    public var address: UInt64
    /// Bytes.
    public var byteCount: UInt64
    /// Where the front end sees the bytes; of an update only.
    public var userAddress: UInt64
    /// Bit 0: may be read, bit 1: may be written.
    public var permissions: UInt8
    /// What happened.
    public var kind: Kind

    /// The five numbers.
    public init(address: UInt64, byteCount: UInt64, userAddress: UInt64 = 0, permissions: UInt8, kind: Kind) {
        self.address = address
        self.byteCount = byteCount
        self.userAddress = userAddress
        self.permissions = permissions
        self.kind = kind
    }
}

/// How memory for what is in flight is divided.
public struct VhostInflightArea: Equatable, Sendable {
    /// Bytes; 0 asks for the number.
    public var byteCount: UInt64
    /// Where it begins in the descriptor's file.
    public var offset: UInt64
    /// Queues that it has parts for.
    public var queues: UInt16
    /// Entries of each.
    public var queueSize: UInt16
}

/// What a front end asks.
public enum VhostMessage {
    case getFeatures
    case setFeatures(VirtioFeatures)
    case setOwner
    case resetOwner
    case setMemoryTable([(region: VhostRegion, descriptor: Descriptor)])
    case setLogBase(byteCount: UInt64, offset: UInt64, Descriptor)
    case setLogDescriptor(Descriptor)
    case setRingSize(ring: UInt32, UInt32)
    case setRingAddresses(ring: UInt32, VhostRingAddresses)
    /// The next available entry; of a packed ring with both wrap counters.
    case setRingBase(ring: UInt32, UInt32)
    case getRingBase(ring: UInt32)
    /// Without a descriptor the ring is to be looked at without being asked.
    case setRingKick(ring: UInt32, Descriptor?)
    case setRingCall(ring: UInt32, Descriptor?)
    case setRingError(ring: UInt32, Descriptor?)
    case getProtocolFeatures
    case setProtocolFeatures(VhostProtocolFeatures)
    case getQueueCount
    case setRingEnabled(ring: UInt32, Bool)
    case sendAnnouncement(MACAddress)
    case setMTU(UInt64)
    case setBackendSocket(Descriptor)
    case translation(VhostTranslation)
    /// - Parameter byteCount: what the answer must have, whatever the device has.
    case getConfiguration(offset: UInt32, byteCount: UInt32, flags: UInt32)
    case setConfiguration(offset: UInt32, flags: UInt32, [UInt8])
    case getInflight(VhostInflightArea)
    case setInflight(VhostInflightArea, Descriptor)
    case resetDevice
    case ringKick(ring: UInt32)
    case getMostRegions
    case addRegion(VhostRegion, Descriptor)
    case removeRegion(VhostRegion)
    case setStatus(UInt64)
    case getStatus
    /// - Parameter isLoading: whether the device takes a state, not gives one.
    case setDeviceState(isLoading: Bool, Descriptor)
    case checkDeviceState
}

/// A message with its number and what its header asks.
public struct VhostEnvelope {
    /// The number.
    public let request: VhostRequest
    /// Whether the sender waits for an answer (`VHOST_USER_NEED_REPLY`).
    public let needsReply: Bool
    /// What is asked.
    public let message: VhostMessage
}
