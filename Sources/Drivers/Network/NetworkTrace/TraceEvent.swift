// What an interface tells its tracers.

import DeviceTrace
import NetworkProtocol
import Packets
import SharedMemory

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

extension TraceTap {
    /// Writes one record, or counts it as lost.
    public func write(_ event: TraceEvent) {
        typealias Place = TraceRecord.Place
        let captured = min(snaplen, event.frame.pieces.byteCount)
        let text = Array(event.text.utf8.prefix(1000))
        let count = Place.rest + event.slots.count * Place.slot + text.count + captured
        write(byteCount: count) { region, offset in
            region.store(UInt32(clamping: event.frame.byteCount), at: offset + Place.byteCount)
            region.store(UInt32(captured), at: offset + Place.captured)
            region.store(event.kind.rawValue, at: offset + Place.kind)
            region.store(UInt16(truncatingIfNeeded: event.queue), at: offset + Place.queue)
            region.store(UInt16(event.slots.count), at: offset + Place.slots)
            region.store(UInt16(text.count), at: offset + Place.text)
            region.store(event.status.rawValue, at: offset + Place.status)
            var place = offset + Place.rest
            for slot in event.slots {
                region.store(slot.first, at: place)
                region.store(slot.second, at: place + 8)
                place += Place.slot
            }
            region.write(text, at: place)
            _ = event.frame.pieces.copyHead(captured, to: region, at: place + text.count)
        }
    }
}
