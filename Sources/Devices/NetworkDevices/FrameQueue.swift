// Frames through a descriptor that takes and gives whole packets with a virtio header each: a tap's queue, or one end
// of a pair of datagram sockets.

import DMA
import Glibc
import LinuxSystem
import Packets
import SharedMemory

/// A queue of a tap or a socket.
final class FrameQueue: NetworkDeviceQueue {
    private let file: Descriptor
    private let bus: MemoryBus
    private var batch: FrameBatch
    /// Of the frame being received.
    private let vectors = VectorList(capacity: 24, headerCount: VirtioHeader.size)
    private(set) var statistics = NetworkDeviceStatistics()
    private let gone: @Sendable () -> Void
    private let closed: @Sendable () -> Void

    /// - Parameters:
    ///   - gone: is called, perhaps more than once, when what is behind the descriptor is no more.
    ///   - closed: is called when the queue is closed.
    init(
        _ file: Descriptor, _ bus: MemoryBus, gone: @escaping @Sendable () -> Void = {}, closed: @escaping @Sendable () -> Void = {}
    ) throws(Errno) {
        do throws(Errno) { batch = try FrameBatch() } catch {
            closed()
            throw error
        }
        self.file = file
        self.bus = bus
        self.gone = gone
        self.closed = closed
    }

    private func note(_ error: Errno) {
        statistics.errors &+= 1
        // A tap's descriptor whose interface was deleted.
        if error.rawValue == EBADFD { gone() }
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
            case .failed(let error): note(error)
            case .full, .waiting: break
            }
        }
    }

    func receive(into segments: Span<BusSegment>) -> FrameReceived {
        vectors.begin(with: VirtioHeader())
        guard vectors.append(segments, bus, .fromDevice) else {
            statistics.errors &+= 1
            return .failed(.badAddress)
        }
        // Only a frame that does not fit reaches it, and a frame that was cut off must not be taken for a whole one.
        vectors.appendSpill()
        while true {
            let count = vectors.read(from: file)
            if count > VirtioHeader.size {
                guard count < vectors.total, let offload = vectors.header(as: VirtioHeader.self).offload else { return spoilt() }
                let byteCount = count - VirtioHeader.size
                statistics.receivedFrames &+= 1
                statistics.receivedBytes &+= UInt64(byteCount)
                return .frame(byteCount: byteCount, offload)
            }
            if count >= 0 { return spoilt() }
            switch Int32(-count) {
            case EINTR: continue
            case EAGAIN: return .nothing
            case let error:
                note(Errno(error))
                return .failed(Errno(error))
            }
        }
    }

    func close() { closed() }

    private func spoilt() -> FrameReceived {
        statistics.errors &+= 1
        return .spoilt
    }
}
