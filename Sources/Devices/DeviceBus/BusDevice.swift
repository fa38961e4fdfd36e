// What a device is to a bus. A device knows these verbs and the memory that it is lent, and never who carries them: a
// caller in this process, a domain on a hypervisor, a front end behind a socket.

/// What a device says of itself.
public struct BusDeviceDescription: Hashable, Sendable, CustomStringConvertible {
    /// What it is called on its bus: 1 to 64 letters, digits, `-`, `_` and `.`.
    public let name: String
    /// What it is, such as `virtio-block`.
    public let type: String
    /// Versions of its interface that it has.
    public let versions: ClosedRange<UInt32>
    /// How many areas can be shared with it.
    public let shares: Int
    /// Whether it serves many connections at a time, or one.
    public let servesMany: Bool

    /// A description.
    public init(name: String, type: String, versions: ClosedRange<UInt32> = 1...1, shares: Int, servesMany: Bool = false) {
        self.name = name
        self.type = type
        self.versions = versions
        self.shares = shares
        self.servesMany = servesMany
    }

    /// `clock (clock-page, version 1)`.
    public var description: String { "\(name) (\(type), version \(versions.upperBound))" }

    static func isName(_ name: String) -> Bool {
        let bytes = name.utf8
        return (1...64).contains(bytes.count)
            && bytes.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                    || [0x2D, 0x2E, 0x5F].contains(byte)
            }
    }
}

/// What a device is told of a connection that is opened to it.
public struct BusOpening: Sendable {
    /// The version that the driver wants, one of the device's.
    public let version: UInt32
    /// The memory that it lends.
    public let memory: BusMemory
    /// Ends the connection from the device's side, and tells the driver why; on any thread, and not before `connect`
    /// has returned.
    public let end: @Sendable (String) -> Void
}

/// A device that can be put on a bus. Any thread.
public protocol BusDevice: AnyObject, Sendable {
    /// What it is; always the same.
    var about: BusDeviceDescription { get }
    /// Begins a connection. The bus has looked at the version, and whether there may be another one.
    func connect(_ opening: BusOpening) throws(BusRefusal) -> any BusEndpoint
}

/// The device's end of a connection. `share`, `call` and `close` come one after another, and each index is shared once
/// and is one of the device's; `signal` comes on any thread, and of indices that were shared.
public protocol BusEndpoint: AnyObject, Sendable {
    /// The driver shares memory from now on, and wants to be told of changes; without an area there is only a signal.
    func share(_ index: Int, _ area: BusArea?, _ signal: BusSignal?) throws(BusRefusal)
    /// The driver says that there is something. Never blocks. May come once more after `close`.
    func signal(_ index: Int)
    /// A slow question or setting.
    func call(_ function: UInt32, _ bytes: [UInt8]) throws(BusRefusal) -> [UInt8]
    /// The end: from its return on nothing of the driver's is touched and nobody signalled.
    func close()
}
