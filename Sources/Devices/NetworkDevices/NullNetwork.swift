// Network devices with nobody behind them: one swallows frames, one always has another. What is left to measure is the
// rings.

import DMA
import LinuxSystem
import Packets
import SharedMemory

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
        frame = try SharedRegion(anonymous: SharedRegion.wholePages(byteCount))
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
            if !bus.isInOnePiece(segments[index], .toDevice), !bus.isReachable(segments[index], .toDevice) {
                statistics.errors &+= 1
                return .failed(.badAddress)
            }
            statistics.sentBytes &+= UInt64(segments[index].byteCount)
        }
        statistics.sentFrames &+= 1
        return .sent
    }

    /// Nothing waits.
    func flush(_ ended: inout [FrameSent]) {}

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
