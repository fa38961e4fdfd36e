// A network interface as a driver moves frames through it. The device side of DMA: it sees bus addresses only.

import DMA
import LinuxSystem
import Packets

/// How sending a frame ended.
public enum FrameSent: Equatable, Sendable {
    /// The device has it.
    case sent
    /// The device sends it at the next `flush`, which tells how that ended; until then its memory must stay as it is.
    case waiting
    /// No room now. If frames wait, `flush` makes some; else try again when the descriptor is writable.
    case full
    /// It was refused and is gone.
    case failed(Errno)
}

/// What `receive` found.
public enum FrameReceived: Equatable, Sendable {
    /// A frame of so many bytes lies in the segments, from the first on.
    case frame(byteCount: Int, FrameOffload)
    /// None now; wait until the descriptor is readable.
    case nothing
    /// A frame that makes no sense was thrown away; there may be more.
    case spoilt
    /// The device is gone or broken.
    case failed(Errno)
}

/// One thread's way to a network interface. Calls never wait.
///
/// Frames move inside the calls, so no memory is in use behind the caller's back: a mapping may end as soon as `send`
/// or `receive` returned, or, for a frame that waits, `flush`.
public protocol NetworkDeviceQueue: AnyObject {
    /// Sends a frame that lies in `segments`, or lets it wait for others to be sent with. A queue either sends every
    /// frame at once or lets every one wait.
    func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent
    /// Sends the frames that wait, in order, and appends to `ended` how that ended for each: `.full` for the first that
    /// there was no room for and all behind it, which must be given again. None waits afterwards.
    func flush(_ ended: inout [FrameSent])
    /// Takes one frame. One that does not fit is spoilt.
    func receive(into segments: Span<BusSegment>) -> FrameReceived
    /// What to wait on; nil: there is never anything to wait for.
    var descriptor: Descriptor? { get }
    /// What becomes writable when `send` is worth another try; `descriptor` unless the queue says otherwise.
    var roomDescriptor: Descriptor? { get }
    /// Ends the queue.
    func close()
    /// What it has done so far.
    var statistics: NetworkDeviceStatistics { get }
}

extension NetworkDeviceQueue {
    /// The one descriptor, for both ways.
    public var roomDescriptor: Descriptor? { descriptor }
}

/// Frames of one queue.
public struct NetworkDeviceStatistics: Equatable, Sendable {
    /// Frames taken from us.
    public var sentFrames: UInt64 = 0
    /// Their bytes.
    public var sentBytes: UInt64 = 0
    /// Frames given to us.
    public var receivedFrames: UInt64 = 0
    /// Their bytes.
    public var receivedBytes: UInt64 = 0
    /// Frames that the device refused.
    public var errors: UInt64 = 0
    /// Nothing yet.
    public init() {}
}

/// Whether a device can be used yet.
public enum DeviceReadiness: Equatable, Sendable {
    /// It can.
    case ready
    /// It is being made, or put in its place.
    case notYet
    /// It never will: why, in one line.
    case failed(String)
}

/// An MTU that is another now, bytes.
public struct MTUChange: Hashable, Sendable, CustomStringConvertible {
    /// What it was.
    public let from: Int
    /// What it is.
    public let to: Int
    /// From one number of bytes to another.
    public init(from: Int, to: Int) {
        self.from = from
        self.to = to
    }
    /// `mtu 9000 lowered to 4078`.
    public var description: String { "mtu \(from) \(to < from ? "lowered" : "raised") to \(to)" }
}

/// A network interface of this host.
public protocol NetworkDevice: AnyObject, Sendable {
    /// For messages.
    var name: String { get }
    /// Bytes of payload of a frame, as the interface is set.
    var mtu: Int { get }
    /// Tells the interface what whoever takes its frames can do.
    func setOffloads(_ offloads: OffloadSet) throws(Errno)
    /// A queue that resolves addresses on `bus`. Several queues share the interface's traffic.
    func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue
    /// Whether one thread must use all its queues; else each queue may have its own.
    var needsOneThread: Bool { get }
    /// Whether it can be used; asked for as long as it is not.
    var readiness: DeviceReadiness { get }
    /// Nobody is to use the interface any more: what was made to outlive this process goes with the last queue.
    func retire()
    /// Whether the other end of the wire is there; nil for an interface that does not know.
    var carrier: Bool? { get }
    /// Calls `changed` whenever `carrier` may have changed, on any thread; replaces an earlier watcher.
    func watchCarrier(_ changed: @escaping @Sendable () -> Void)
    /// Tells the interface whether there is a carrier, so that whoever uses it sees it.
    func setCarrier(_ isUp: Bool) throws(Errno)
    /// Queues that may be open at once.
    var mostQueues: Int { get }
    /// Whether the interface is no more, though nobody here let it go: whoever watches its carrier is told.
    var isGone: Bool { get }
    /// Sees to it that the interface shows no MTU above `most`, from now on, so that nobody sends what has no way; what
    /// that changed now, if anything.
    func limitMTU(to most: Int) throws(Errno) -> MTUChange?
    /// What the interface, and what is under way in it, lives on by: a successor of this process that is given these
    /// goes on with both. In an order that the device knows; none: there is nothing to go on with.
    var lifeline: [Descriptor] { get }
    /// Every queue is open that will be: what a predecessor had open beside them is let go.
    func settle()
}

extension NetworkDevice {
    /// Each queue may have its own.
    public var needsOneThread: Bool { false }
    /// As soon as it is there.
    public var readiness: DeviceReadiness { .ready }
    /// Nothing outlives this process.
    public func retire() {}
    /// It does not know.
    public var carrier: Bool? { nil }
    /// It never changes.
    public func watchCarrier(_ changed: @escaping @Sendable () -> Void) {}
    /// It has nobody to show it to.
    public func setCarrier(_ isUp: Bool) throws(Errno) {}
    /// As many as are wanted.
    public var mostQueues: Int { .max }
    /// It stays until it is let go.
    public var isGone: Bool { false }
    /// It shows none that could be set.
    public func limitMTU(to most: Int) throws(Errno) -> MTUChange? { nil }
    /// There is nothing to go on with.
    public var lifeline: [Descriptor] { [] }
    /// There is nothing to let go.
    public func settle() {}
}
