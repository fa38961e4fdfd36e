// The backend's end of one tracer: a ring that the tracer reads, and its doorbell. A tracer that is slow loses records, which are counted;
// the backend never waits for it, and looks at nothing of its but two words.

import CLinux
import Glibc
import LinuxSystem
import Packets
import SharedMemory
import Synchronization
import XenWire

/// Where the packets of one interface are written for one tracer. Written on the threads of the interface's queues.
public final class TraceTap: Sendable {
    /// Bytes of each frame that are wanted.
    public let snaplen: Int
    let memory: SealedMemory
    let wake: WakePipe
    private let region: SharedRegion
    private struct Writing: ~Copyable {
        var writer: RecordWriter
        var lost: UInt32 = 0
    }
    private let writing: Mutex<Writing>

    /// - Parameters:
    ///   - capacity: bytes of records that may wait for the tracer; see `RecordRing.isCapacity`, and at least 256 KiB.
    ///   - snaplen: bytes of each frame that are kept.
    public init(capacity: Int, snaplen: Int) throws(Errno) {
        guard RecordRing.isCapacity(capacity), capacity >= 1 << 18, snaplen >= 0 else { throw Errno(EINVAL) }
        self.snaplen = snaplen
        memory = try SealedMemory("trace", byteCount: RecordRing.byteCount(capacity: capacity), final: true)
        wake = try WakePipe()
        region = try SharedRegion(mapping: memory.descriptor, byteCount: memory.byteCount, writable: true)
        writing = Mutex(Writing(writer: RecordWriter(region)))
    }

    /// Writes one record, or counts it as lost.
    /// - Parameters:
    ///   - byteCount: of the whole frame.
    ///   - pieces: where the frame lies; empty if there is none.
    public func write(
        _ kind: TraceKind, queue: Int, status: NetworkStatus = .okay, text: String = "", slots: [TraceSlot] = [],
        byteCount: Int = 0, pieces: FramePieces = FramePieces()
    ) {
        typealias Place = TraceRecord.Place
        let captured = min(snaplen, pieces.byteCount)
        let text = Array(text.utf8.prefix(1000))
        let count = Place.rest + slots.count * Place.slot + text.count + captured
        let mustWake = writing.withLock { writing -> Bool in
            guard let offset = writing.writer.reserve(count) else {
                writing.writer.lose()
                writing.lost &+= 1
                return false
            }
            region.store(Self.now(), at: offset + Place.nanoseconds)
            region.store(UInt32(clamping: byteCount), at: offset + Place.byteCount)
            region.store(UInt32(captured), at: offset + Place.captured)
            region.store(kind.rawValue, at: offset + Place.kind)
            region.store(UInt16(truncatingIfNeeded: queue), at: offset + Place.queue)
            region.store(UInt16(slots.count), at: offset + Place.slots)
            region.store(UInt16(text.count), at: offset + Place.text)
            region.store(status.rawValue, at: offset + Place.status)
            region.store(writing.lost, at: offset + Place.lost)
            var place = offset + Place.rest
            for slot in slots {
                region.store(slot.first, at: place)
                region.store(slot.second, at: place + 8)
                place += Place.slot
            }
            region.write(text, at: place)
            _ = pieces.copyHead(captured, to: region, at: place + text.count)
            writing.writer.commit()
            return writing.writer.takeReaderWish()
        }
        if mustWake { signalPipe(wake.writer) }
    }

    /// Nothing more will come: the interface is gone. From any thread.
    public func end() {
        RecordWriter.end(region)
        signalPipe(wake.writer)
    }

    private static func now() -> UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
