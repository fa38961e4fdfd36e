// What can be traced, and what a record of it is.

import LinuxSystem
import SharedMemory

/// What a file says of the device that was traced.
public struct TraceSubject: Equatable, Sendable {
    /// `vif1.0`, `vbd1.51712`.
    public var name: String
    /// What it hangs on, for a reader: `domain 1's interface 0, on tap vif1.0`.
    public var description: String
    /// An interface's frontend's address; nil: it is none.
    public var address: MACAddress?

    /// Says what is given.
    public init(name: String, description: String, address: MACAddress? = nil) {
        self.name = name
        self.description = description
        self.address = address
    }
}

/// Whoever has devices to be traced.
public protocol TraceSubjects: Sendable {
    /// Writes a device's records to `tap` from now on; nil if there is no such device.
    func attach(_ tap: TraceTap, to request: TraceRequest) -> TraceSubject?
    /// Writes nothing more to `tap`.
    func detach(_ tap: TraceTap)
}

/// A record of one kind of device, as a tracer has it.
public protocol TracedRecord: Sendable {
    /// What packets of such a device are, for a reader of the file: one of pcapng's link types.
    static var linkType: UInt16 { get }
    /// What such a device is.
    static var kind: TraceRequest.Kind { get }
    /// When, and what was lost before.
    var header: TraceHeader { get }
    /// As a file has it.
    var packet: PcapngPacket { get }
    /// As a person reads it, without its date: a line, and more below it.
    var lines: [String] { get }
    /// The record whose body lies at `offset`; nil if its parts do not fit its length.
    init?(_ header: TraceHeader, _ region: SharedRegion, _ offset: Int, _ count: Int)
}

/// A packet of a pcapng file.
public struct PcapngPacket: Equatable, Sendable {
    /// Seen from the interface of the backend's side.
    public enum Direction: UInt32, Sendable {
        /// Neither: a note.
        case none = 0
        case inbound = 1
        case outbound = 2
    }

    /// What was kept of it.
    public var bytes: [UInt8]
    /// How many bytes it had.
    public var byteCount: Int
    /// Which way it went.
    public var direction: Direction
    /// Whether it is a frame, whose first bytes say for how many it is meant.
    public var isFrame: Bool
    /// Which of the device's queues.
    public var queue: Int
    /// What is worth knowing beside the bytes.
    public var comments: [String]

    /// As given.
    public init(bytes: [UInt8], byteCount: Int, direction: Direction, isFrame: Bool, queue: Int, comments: [String]) {
        self.bytes = bytes
        self.byteCount = byteCount
        self.direction = direction
        self.isFrame = isFrame
        self.queue = queue
        self.comments = comments
    }
}
