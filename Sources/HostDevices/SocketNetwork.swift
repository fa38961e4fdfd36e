// Network devices without an interface: one end of a pair of datagram sockets, whose other end is a test, a benchmark or another
// program; and one that swallows frames.

import CLinux
import DMA
import Glibc
import LinuxSystem
import Packets
import Synchronization

/// One end of a pair of sockets. A datagram is a frame behind the ten bytes of a virtio header.
public final class SocketNetwork: NetworkDevice {
    /// What it is called in messages.
    public let name: String
    /// Bytes of payload in a frame.
    public let mtu: Int
    private let end: Descriptor

    /// Sends and receives on `end`.
    public init(name: String, end: Descriptor, mtu: Int = 1500) {
        self.name = name
        self.mtu = mtu
        self.end = end
    }

    /// Two ends; what is sent on one is received on the other.
    public static func pair(_ name: String, mtu: Int = 1500, bufferBytes: Int = 4 << 20) throws(Errno) -> (SocketNetwork, SocketNetwork) {
        let (first, second) = try descriptors(bufferBytes)
        return (
            SocketNetwork(name: "\(name)/0", end: first, mtu: mtu), SocketNetwork(name: "\(name)/1", end: second, mtu: mtu)
        )
    }

    static func descriptors(_ bufferBytes: Int) throws(Errno) -> (Descriptor, Descriptor) {
        var raw: (Int32, Int32) = (-1, -1)
        let result = unsafe withUnsafeMutableBytes(of: &raw) { bytes in
            unsafe causeway_datagram_pair(bytes.bindMemory(to: Int32.self).baseAddress, Int32(clamping: bufferBytes))
        }
        if result < 0 { throw Errno.current }
        return (Descriptor(owning: raw.0), Descriptor(owning: raw.1))
    }

    /// Whatever is at the other end is told of offloads by nobody.
    public func setOffloads(_ offloads: OffloadSet) throws(Errno) {}

    /// All queues share the one socket.
    public func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { FrameQueue(end, bus) }
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
    private(set) var statistics = NetworkDeviceStatistics()
    init(_ bus: MemoryBus) { self.bus = bus }
    var descriptor: Descriptor? { nil }

    /// Addresses are resolved all the same, so that a wrong one faults here too.
    func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent {
        for index in segments.indices {
            guard unsafe bus.resolve(segments[index], .toDevice) != nil else {
                statistics.errors &+= 1
                return .failed(.badAddress)
            }
            statistics.sentBytes &+= UInt64(segments[index].byteCount)
        }
        statistics.sentFrames &+= 1
        return .sent
    }

    func receive(into segments: Span<BusSegment>) -> FrameReceived { .nothing }
    func close() {}
}
