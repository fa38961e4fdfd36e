// A cable: two network devices back to back, so that two frontends of one backend see each other with nothing between them. Frames go
// through a pair of datagram sockets, their offloads with them; what the other end does not take is cut up here, as a kernel would.

import DMA
import Glibc
import LinuxSystem
import Packets
import SharedMemory
import Synchronization

/// Both ends of a cable.
public final class Cable: Sendable {
    fileprivate struct State {
        var takes: [OffloadSet] = [[], []]
        var queues = [0, 0]
    }

    let sockets: [SocketNetwork]
    fileprivate let state = Mutex(State())

    /// A cable called `name`.
    public init(name: String) throws(Errno) {
        let (first, second) = try SocketNetwork.pair("cable \(name)")
        sockets = [first, second]
    }

    /// End 0 or 1.
    public func end(_ index: Int) -> CableEnd { CableEnd(self, index) }
}

/// One end of a cable: whatever is sent here is received at the other one.
public final class CableEnd: NetworkDevice {
    private let cable: Cable
    private let index: Int

    fileprivate init(_ cable: Cable, _ index: Int) {
        self.cable = cable
        self.index = index
    }

    public var name: String { cable.sockets[index].name }
    public var mtu: Int { cable.sockets[index].mtu }
    public func setOffloads(_ offloads: OffloadSet) throws(Errno) { cable.state.withLock { $0.takes[index] = offloads } }

    public func openQueue(bus: MemoryBus) throws(Errno) -> any NetworkDeviceQueue {
        let queue = try CableQueue(cable, index, try cable.sockets[index].openQueue(bus: bus), bus)
        cable.state.withLock { $0.queues[index] += 1 }
        return queue
    }
}

/// A queue at one end.
private final class CableQueue: NetworkDeviceQueue {
    private let cable: Cable
    private let index: Int
    private let inner: any NetworkDeviceQueue
    private let bus: MemoryBus
    /// The frame's headers, and behind them a packet's.
    private let scratch: SharedRegion
    private let scratchAddress: BusAddress
    private var pieces: [BusSegment] = []
    private var isClosed = false

    init(_ cable: Cable, _ index: Int, _ inner: any NetworkDeviceQueue, _ bus: MemoryBus) throws(Errno) {
        self.cable = cable
        self.index = index
        self.inner = inner
        self.bus = bus
        scratch = try SharedRegion(anonymous: SharedRegion.pageSize)
        scratchAddress = bus.attach(scratch)
    }

    var descriptor: Descriptor? { inner.descriptor }
    var statistics: NetworkDeviceStatistics { inner.statistics }
    func receive(into segments: Span<BusSegment>) -> FrameReceived { inner.receive(into: segments) }

    func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent {
        let (takes, isThere) = cable.state.withLock { ($0.takes[1 - index], $0.queues[1 - index] > 0) }
        // A cable with one end in the air.
        guard isThere else { return .failed(Errno(ENOTCONN)) }
        guard let segmentation = offload.segmentation, !takes.contains(segmentation.type == .tcp4 ? .tcp4 : .tcp6) else {
            return inner.send(offload, segments: segments)
        }
        return cut(segmentation, segments)
    }

    /// Sends a large frame as packets. If there is room for some of them only, the rest is lost, as on any wire.
    private func cut(_ segmentation: FrameOffload.Segmentation, _ segments: Span<BusSegment>) -> FrameSent {
        var byteCount = 0
        for index in segments.indices { byteCount += Int(segments[index].byteCount) }
        let count = BusFrame.copyHead(segments, min(byteCount, FrameHeaders.mostBytes), on: bus, to: scratch, at: 0)
        guard let cutter = FrameCutter(segmentation, in: scratch, head: 0, headCount: count, byteCount: byteCount),
            let head = scratchAddress.advanced(by: UInt64(FrameHeaders.mostBytes))
        else { return .failed(Errno(EINVAL)) }
        for packet in 0..<cutter.count {
            cutter.writeHead(packet, in: scratch, head: 0, to: FrameHeaders.mostBytes)
            pieces.removeAll(keepingCapacity: true)
            pieces.append(BusSegment(address: head, byteCount: UInt32(cutter.headCount)))
            append(cutter.payload(packet), of: segments)
            switch inner.send(cutter.offload, segments: pieces.span) {
            case .sent: continue
            case .full: return packet == 0 ? .full : .sent
            case .failed(let error): return .failed(error)
            }
        }
        return .sent
    }

    /// Names the bytes of the frame in `range`.
    private func append(_ range: Range<Int>, of segments: Span<BusSegment>) {
        var position = 0
        for index in segments.indices {
            let segment = segments[index]
            let start = max(range.lowerBound, position)
            let end = min(range.upperBound, position + Int(segment.byteCount))
            if start < end, let address = segment.address.advanced(by: UInt64(start - position)) {
                pieces.append(BusSegment(address: address, byteCount: UInt32(end - start)))
            }
            position += Int(segment.byteCount)
        }
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        cable.state.withLock { $0.queues[index] -= 1 }
        inner.close()
    }
}
