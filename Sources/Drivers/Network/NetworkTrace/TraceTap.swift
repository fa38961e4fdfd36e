// The backend's end of one tracer: a ring that the tracer reads, and its doorbell. A tracer that is slow loses records,
// which are counted; the backend never waits for it, and looks at nothing of its but two words.

import LinuxSystem
import NetworkProtocol
import Packets
import SharedMemory
import Synchronization

/// A traced packet's frame.
public struct TraceFrame {
    /// Bytes of the whole frame.
    public var byteCount: Int
    /// Where the frame lies; empty if there is none.
    public var pieces: FramePieces

    /// A frame of `byteCount` bytes, of which `pieces` can be shown.
    public init(byteCount: Int = 0, pieces: FramePieces = FramePieces()) {
        self.byteCount = byteCount
        self.pieces = pieces
    }
}

/// What is told of a packet, or of what is none.
public struct TraceEvent {
    /// Which way it went.
    public var kind: TraceKind
    /// The queue's number.
    public var queue: Int
    /// How it was answered.
    public var status: NetworkStatus
    /// More about it; empty: nothing.
    public var text: String
    /// The ring's slots, as they were.
    public var slots: [TraceSlot]
    /// The frame that they are of.
    public var frame: TraceFrame

    /// Something on a queue.
    public init(
        _ kind: TraceKind, queue: Int, status: NetworkStatus = .okay, text: String = "", slots: [TraceSlot] = [],
        frame: TraceFrame = TraceFrame()
    ) {
        self.kind = kind
        self.queue = queue
        self.status = status
        self.text = text
        self.slots = slots
        self.frame = frame
    }
}

/// Where the packets of one interface are written for one tracer. Written on the threads of the interface's queues.
public final class TraceTap: Sendable {
    /// Bytes of each frame that are wanted.
    public let snaplen: Int
    let memory: SealedMemory
    let wake: WakePipe
    private let time: any TimeSource
    private let region: SharedRegion
    private struct Writing: ~Copyable {
        var writer: RecordWriter
        var lost: UInt32 = 0
    }
    private let writing: Mutex<Writing>

    /// - Parameters:
    ///   - capacity: bytes of records that may wait for the tracer; see `RecordRing.isCapacity`, and at least 256 KiB.
    ///   - snaplen: bytes of each frame that are kept.
    ///   - time: where the records' dates come from.
    public init(capacity: Int, snaplen: Int, time: some TimeSource) throws(Errno) {
        guard RecordRing.isCapacity(capacity), capacity >= 1 << 18, snaplen >= 0 else { throw .invalidArgument }
        self.snaplen = snaplen
        self.time = time
        memory = try SealedMemory("trace", byteCount: RecordRing.byteCount(capacity: capacity), final: true)
        wake = try WakePipe()
        region = try SharedRegion(mapping: memory.descriptor, byteCount: memory.byteCount, writable: true)
        writing = Mutex(Writing(writer: RecordWriter(region)))
    }

    /// Writes one record, or counts it as lost.
    public func write(_ event: TraceEvent) {
        typealias Place = TraceRecord.Place
        let captured = min(snaplen, event.frame.pieces.byteCount)
        let text = Array(event.text.utf8.prefix(1000))
        let count = Place.rest + event.slots.count * Place.slot + text.count + captured
        let mustWake = writing.withLock { writing -> Bool in
            guard let offset = writing.writer.reserve(count) else {
                writing.writer.lose()
                writing.lost &+= 1
                return false
            }
            region.store(time.calendarNanoseconds, at: offset + Place.nanoseconds)
            region.store(UInt32(clamping: event.frame.byteCount), at: offset + Place.byteCount)
            region.store(UInt32(captured), at: offset + Place.captured)
            region.store(event.kind.rawValue, at: offset + Place.kind)
            region.store(UInt16(truncatingIfNeeded: event.queue), at: offset + Place.queue)
            region.store(UInt16(event.slots.count), at: offset + Place.slots)
            region.store(UInt16(text.count), at: offset + Place.text)
            region.store(event.status.rawValue, at: offset + Place.status)
            region.store(writing.lost, at: offset + Place.lost)
            var place = offset + Place.rest
            for slot in event.slots {
                region.store(slot.first, at: place)
                region.store(slot.second, at: place + 8)
                place += Place.slot
            }
            region.write(text, at: place)
            _ = event.frame.pieces.copyHead(captured, to: region, at: place + text.count)
            writing.writer.commit()
            return writing.writer.takeReaderRequest()
        }
        if mustWake { signalPipe(wake.writer) }
    }

    /// Nothing more will come: the interface is gone. From any thread.
    public func end() {
        RecordWriter.end(region)
        signalPipe(wake.writer)
    }
}
