// Network devices without an interface: one end of a pair of datagram sockets, whose other end is a test, a benchmark or another
// program; and one that swallows frames.

import CLinux
import DMA
import Glibc
import LinuxSystem
import Packets
import SharedMemory
import Synchronization

/// One end of a pair of sockets. A datagram is a frame behind the ten bytes of a virtio header.
public final class SocketNetwork: NetworkDevice {
    /// What it is called in messages.
    public let name: String
    /// Bytes of payload in a frame.
    public let mtu: Int
    private let end: Descriptor
    private let taken = Mutex<OffloadSet>([])

    /// Sends and receives on `end`.
    public init(name: String, end: Descriptor, mtu: Int = 1500) {
        self.name = name
        self.mtu = mtu
        self.end = end
    }

    /// Two ends; what is sent on one is received on the other.
    public static func pair(_ name: String, mtu: Int = 1500, bufferBytes: Int = 4 << 20) throws(Errno) -> (
        SocketNetwork, SocketNetwork
    ) {
        var raw: (Int32, Int32) = (-1, -1)
        let result = unsafe withUnsafeMutableBytes(of: &raw) { bytes in
            unsafe causeway_datagram_pair(bytes.bindMemory(to: Int32.self).baseAddress, Int32(clamping: bufferBytes))
        }
        if result < 0 { throw Errno.current }
        return (
            SocketNetwork(name: "\(name)/0", end: Descriptor(owning: raw.0), mtu: mtu),
            SocketNetwork(name: "\(name)/1", end: Descriptor(owning: raw.1), mtu: mtu)
        )
    }

    /// What the driver said last that whoever takes its frames can do; whatever is at the other end is told by nobody, it may ask.
    public var offloads: OffloadSet { taken.withLock { $0 } }

    /// Sets what frames it may be given whole; see `NetworkDevice`.
    public func setOffloads(_ offloads: OffloadSet) throws(Errno) { taken.withLock { $0 = offloads } }

    /// All queues share the one socket.
    public func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { FrameQueue(end, bus) }
}

/// A device that takes every frame and always has another one: the load of a benchmark.
public final class EndlessNetwork: NetworkDevice {
    /// What it is called in messages.
    public let name: String
    /// Bytes of payload in a frame.
    public let mtu = 1500
    private let frame: SharedRegion
    private let byteCount: Int

    /// Its frames have `byteCount` bytes, 14 to 65535, and a type that nobody knows.
    public init(byteCount: Int) throws(Errno) {
        precondition((14...65535).contains(byteCount))
        name = "frames\(byteCount)"
        self.byteCount = byteCount
        frame = try SharedRegion(anonymous: (byteCount + SharedRegion.pageSize - 1) / SharedRegion.pageSize * SharedRegion.pageSize)
        frame.fill(0, count: 6, with: 0xFF)
        frame.write([0x02, 0, 0, 0, 0, 1, 0x88, 0xB5], at: 6)
    }

    /// Sets what frames it may be given whole; see `NetworkDevice`.
    public func setOffloads(_ offloads: OffloadSet) throws(Errno) {}
    /// Opens one more queue; see `NetworkDevice`.
    public func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { NullFrameQueue(bus, frame, byteCount) }
}

/// A device that takes every frame and has none.
public final class NullNetwork: NetworkDevice {
    /// What it is called in messages.
    public let name = "null"
    /// Bytes of payload in a frame.
    public let mtu: Int
    /// A device that takes frames of up to `mtu` bytes of payload and gives none.
    public init(mtu: Int = 1500) { self.mtu = mtu }
    /// Sets what frames it may be given whole; see `NetworkDevice`.
    public func setOffloads(_ offloads: OffloadSet) throws(Errno) {}
    /// Opens one more queue; see `NetworkDevice`.
    public func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { NullFrameQueue(bus) }
}

private final class NullFrameQueue: NetworkDeviceQueue {
    private let bus: MemoryBus
    /// What it has; nil: nothing.
    private let frame: SharedRegion?
    private let byteCount: Int
    private(set) var statistics = NetworkDeviceStatistics()

    init(_ bus: MemoryBus, _ frame: SharedRegion? = nil, _ byteCount: Int = 0) {
        self.bus = bus
        self.frame = frame
        self.byteCount = byteCount
    }

    var descriptor: Descriptor? { nil }

    /// Addresses are resolved all the same, so that a wrong one faults here too.
    func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent {
        for index in segments.indices {
            if unsafe bus.resolve(segments[index], .toDevice) == nil, !bus.isReachable(segments[index], .toDevice) {
                statistics.errors &+= 1
                return .failed(.badAddress)
            }
            statistics.sentBytes &+= UInt64(segments[index].byteCount)
        }
        statistics.sentFrames &+= 1
        return .sent
    }

    func receive(into segments: Span<BusSegment>) -> FrameReceived {
        guard let frame else { return .nothing }
        var done = 0
        for index in segments.indices where done < byteCount {
            let part = BusSegment(
                address: segments[index].address, byteCount: min(segments[index].byteCount, UInt32(byteCount - done)))
            guard bus.write(part, from: frame, at: done) else {
                statistics.errors &+= 1
                return .failed(.badAddress)
            }
            done += Int(part.byteCount)
        }
        statistics.receivedFrames &+= 1
        statistics.receivedBytes &+= UInt64(done)
        return .frame(byteCount: done, FrameOffload())
    }

    func close() {}
}
