// Frames through a descriptor that takes and gives whole packets with a virtio header each: a tap's queue, or one end of a pair of
// datagram sockets.

import CLinux
import DMA
import Glibc
import LinuxSystem
import Packets

/// A queue of a tap or a socket.
@safe
final class FrameQueue: NetworkDeviceQueue {
    private let file: Descriptor
    private let bus: MemoryBus
    private var batch: FrameBatch
    private let vectors = VectorList(capacity: 24)
    /// Of the frame being received.
    private let header: UnsafeMutablePointer<VirtioHeader>
    /// One byte behind the memory that a frame is received into: only a frame that does not fit reaches it, and a frame that was cut off
    /// must not be taken for a whole one.
    private let spill: UnsafeMutableRawPointer
    private(set) var statistics = NetworkDeviceStatistics()

    init(_ file: Descriptor, _ bus: MemoryBus) throws(Errno) {
        batch = try FrameBatch()
        self.file = file
        self.bus = bus
        unsafe header = .allocate(capacity: 1)
        unsafe header.initialize(to: VirtioHeader())
        unsafe spill = .allocate(byteCount: 1, alignment: 1)
    }

    deinit {
        unsafe header.deallocate()
        unsafe spill.deallocate()
    }

    var descriptor: Descriptor? { file }

    func send(_ offload: FrameOffload, segments: Span<BusSegment>) -> FrameSent {
        if batch.isFull { return .full }
        if batch.append(offload, segments, bus) { return .waiting }
        statistics.errors &+= 1
        return .failed(.badAddress)
    }

    func flush(_ ended: inout [FrameSent]) {
        let (count, before) = (batch.count, ended.count)
        batch.write(to: file, &ended)
        for index in 0..<count {
            switch ended[before + index] {
            case .sent:
                statistics.sentFrames &+= 1
                statistics.sentBytes &+= batch.byteCount(index)
            case .failed: statistics.errors &+= 1
            case .full, .waiting: break
            }
        }
    }

    func receive(into segments: Span<BusSegment>) -> FrameReceived {
        guard unsafe vectors.load(behind: header, VirtioHeader.size, segments, bus, .fromDevice) else {
            statistics.errors &+= 1
            return .failed(.badAddress)
        }
        unsafe vectors.extend(by: spill, 1)
        while true {
            let count = unsafe readv(file.rawValue, vectors.storage, Int32(vectors.count))
            if count > VirtioHeader.size {
                guard count < vectors.total, let offload = unsafe header.pointee.offload else { return spoilt() }
                let byteCount = count - VirtioHeader.size
                statistics.receivedFrames &+= 1
                statistics.receivedBytes &+= UInt64(byteCount)
                return .frame(byteCount: byteCount, offload)
            }
            if count >= 0 { return spoilt() }
            switch errno {
            case EINTR: continue
            case EAGAIN: return .nothing
            default:
                statistics.errors &+= 1
                return .failed(Errno.current)
            }
        }
    }

    func close() {}

    private func spoilt() -> FrameReceived {
        statistics.errors &+= 1
        return .spoilt
    }
}
