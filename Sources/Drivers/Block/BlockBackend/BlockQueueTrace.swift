// What one queue tells its tracers. There is none while nobody traces, and then the queue pays for a look at a null
// reference. On the queue's reactor thread.

import BlockModel
import BlockProtocol
import BlockTrace
import DeviceTrace
import LinuxSystem

/// The tracers of one queue.
final class BlockQueueTrace {
    private let taps: [TraceTap]
    private let queue: Int
    private let time: any TimeSource
    /// When requests in work were taken, and where they are on the disk, by slot; 0: before the trace began.
    private var taken: SlotMap<(begun: UInt64, sector: UInt64, sectors: UInt64)>

    /// A request's segments that are told of.
    private static let mostSegments = 256

    init(_ taps: [TraceTap], queue: Int, slots: Int, time: any TimeSource) {
        self.taps = taps
        self.queue = queue
        self.time = time
        taken = SlotMap(repeating: (0, 0, 0), capacity: slots)
    }

    private func write(_ event: BlockTraceEvent) { for tap in taps { tap.write(event) } }

    /// A request was taken into `slot`.
    /// - Parameter segments: where an indirect request's lie; a direct one has its own.
    func took(_ request: BlockRequest, in slot: RequestSlot, sectors: UInt64, segments: [BlockSegment]) {
        taken[slot] = (time.nanoseconds, request.sector, sectors)
        var event = asked(request, segments)
        event.sectorCount = sectors
        write(event)
    }

    /// A request made no sense, and was answered at once.
    func refused(_ request: BlockRequest, _ reason: BlockRejection, segments: [BlockSegment]) {
        write(asked(request, segments))
        var event = BlockTraceEvent(.answer, queue: queue, operation: request.responseOperation, id: request.id)
        event.status = reason.status
        event.sector = request.sector
        event.text = "refused: \(reason)"
        write(event)
    }

    /// The request in `slot` is answered.
    func answered(_ slot: RequestSlot, id: UInt64, _ operation: BlockOperationCode, _ status: BlockStatus) {
        let (begun, sector, sectors) = taken[slot]
        taken[slot] = (0, 0, 0)
        var event = BlockTraceEvent(.answer, queue: queue, operation: operation, id: id)
        event.status = status
        event.sector = sector
        event.sectorCount = sectors
        if begun == 0 { event.text = "taken before the trace began" } else { event.nanoseconds = time.nanoseconds &- begun }
        write(event)
    }

    private func asked(_ request: BlockRequest, _ segments: [BlockSegment]) -> BlockTraceEvent {
        var event = BlockTraceEvent(.request, queue: queue, operation: request.responseOperation, id: request.id)
        event.isIndirect = request.operation == .indirect
        event.sector = request.sector
        switch request.operation {
        case .discard, .flush: break
        case .indirect:
            event.segmentCount = UInt32(request.segmentCount)
            event.segments = Array(segments.prefix(Self.mostSegments))
        default:
            event.segmentCount = UInt32(request.segmentCount)
            event.segments = request.segments
        }
        return event
    }
}
