// A network device without an interface: one end of a pair of datagram sockets, whose other end is a test, a benchmark
// or another program.

import DMA
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
        let (first, second) = try DatagramSocket.pair(bufferBytes: bufferBytes)
        return (
            SocketNetwork(name: "\(name)/0", end: first, mtu: mtu), SocketNetwork(name: "\(name)/1", end: second, mtu: mtu)
        )
    }

    /// What the driver said last that whoever takes its frames can do; whatever is at the other end is told by nobody,
    /// it may ask.
    public var offloads: OffloadSet { taken.withLock { $0 } }

    /// Sets what frames it may be given whole; see `NetworkDevice`.
    public func setOffloads(_ offloads: OffloadSet) throws(Errno) { taken.withLock { $0 = offloads } }

    /// All queues share the one socket.
    public func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue { try FrameQueue(end, bus) }
}
