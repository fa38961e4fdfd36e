// The backend's end of one tracer: a ring that the tracer reads, and its doorbell. A tracer that is slow loses records,
// which are counted; the backend never waits for it, and looks at nothing of its but two words.

import LinuxSystem
import SharedMemory
import Synchronization

/// What every record begins with; what follows is its kind of device's.
public struct TraceHeader: Equatable, Sendable {
    /// Nanoseconds since 1970.
    public var nanoseconds: UInt64
    /// Records lost before this one, since the beginning; wraps.
    public var lost: UInt32

    /// As given.
    public init(nanoseconds: UInt64, lost: UInt32) {
        self.nanoseconds = nanoseconds
        self.lost = lost
    }

    /// Bytes that it takes.
    public static let byteCount = 16

    init(_ region: SharedRegion, _ offset: Int) {
        nanoseconds = region.load(offset)
        lost = region.load(offset + 8)
    }

    func store(_ region: SharedRegion, _ offset: Int) {
        region.store(nanoseconds, at: offset)
        region.store(lost, at: offset + 8)
    }
}

/// Where the records of one device are written for one tracer. Written on the threads of the device's queues.
public final class TraceTap: Sendable {
    /// Bytes of each frame that are wanted, where there are frames.
    public let snaplen: Int
    package let memory: SealedMemory
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
    /// - Parameters:
    ///   - byteCount: bytes behind the header.
    ///   - body: writes them, from the offset that it is given.
    public func write(byteCount: Int, _ body: (SharedRegion, Int) -> Void) {
        let mustWake = writing.withLock { writing -> Bool in
            guard let offset = writing.writer.reserve(TraceHeader.byteCount + byteCount) else {
                writing.writer.lose()
                writing.lost &+= 1
                return false
            }
            TraceHeader(nanoseconds: time.calendarNanoseconds, lost: writing.lost).store(region, offset)
            body(region, offset + TraceHeader.byteCount)
            writing.writer.commit()
            return writing.writer.takeReaderRequest()
        }
        if mustWake { signalPipe(wake.writer) }
    }

    /// Nothing more will come: the device is gone. From any thread.
    public func end() {
        RecordWriter.end(region)
        signalPipe(wake.writer)
    }
}
