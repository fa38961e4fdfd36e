// The messages' numbers (vhost-user.rst of QEMU).

/// What a front end asks.
public enum VhostRequest: UInt32, Sendable, CaseIterable, CustomStringConvertible {
    case getFeatures = 1
    case setFeatures = 2
    case setOwner = 3
    case resetOwner = 4
    case setMemoryTable = 5
    case setLogBase = 6
    case setLogDescriptor = 7
    case setRingSize = 8
    case setRingAddresses = 9
    case setRingBase = 10
    case getRingBase = 11
    case setRingKick = 12
    case setRingCall = 13
    case setRingError = 14
    case getProtocolFeatures = 15
    case setProtocolFeatures = 16
    case getQueueCount = 17
    case setRingEnabled = 18
    case sendAnnouncement = 19
    case setMTU = 20
    case setBackendSocket = 21
    case translation = 22
    case getConfiguration = 24
    case setConfiguration = 25
    case getInflight = 31
    case setInflight = 32
    case resetDevice = 34
    case ringKick = 35
    case getMostRegions = 36
    case addRegion = 37
    case removeRegion = 38
    case setStatus = 39
    case getStatus = 40
    case setDeviceState = 42
    case checkDeviceState = 43

    /// Whether it is answered, whatever its flags say; `setLogBase` only with `sharedLog`.
    public var isAlwaysAnswered: Bool {
        switch self {
        case .getFeatures, .getRingBase, .getProtocolFeatures, .getQueueCount, .getConfiguration, .getInflight, .getMostRegions,
            .getStatus, .setDeviceState, .checkDeviceState:
            true
        default: false
        }
    }

    /// How many descriptors may come with it.
    var descriptors: ClosedRange<Int> {
        switch self {
        case .setMemoryTable: 1...VhostLimits.regionsInMessage
        case .setLogBase, .setLogDescriptor, .setBackendSocket, .setInflight, .addRegion, .setDeviceState: 1...1
        case .setRingKick, .setRingCall, .setRingError: 0...1
        // QEMU sends the region's descriptor again.
        case .removeRegion: 0...1
        default: 0...0
        }
    }

    /// As messages for people name it.
    public var description: String { "message \(rawValue)" }
}

/// Bounds of the protocol, and of this back end.
public enum VhostLimits {
    /// Regions that one message holds, and descriptors with it.
    public static let regionsInMessage = 8
    /// Regions that a table has room for: what `getMostRegions` is told.
    public static let regions = 32
    /// Pairs of rings of one interface at most.
    static let ringPairs = 128
    /// Bytes of a region's file that are mapped: half a window of a queue's bus.
    public static let mappedBytes: UInt64 = 1 << 39
    /// Bytes of configuration space in one message.
    public static let configurationBytes = 256
    /// The longest payload of any message: a memory table with its descriptors is the longest that is known.
    public static let payloadBytes = 4096
    /// Bytes of a header: request, flags, size.
    public static let headerBytes = 12
}
