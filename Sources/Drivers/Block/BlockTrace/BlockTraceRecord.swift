// A request or an answer as a tracer has it.

import BlockProtocol
import DeviceTrace
import SharedMemory

/// One record of a disk.
public struct BlockTraceRecord: TracedRecord, Equatable {
    /// When, and what was lost before.
    public let header: TraceHeader
    /// What was told.
    public let event: BlockTraceEvent
    private let bytes: [UInt8]

    /// LINKTYPE_USER0: the packet is this project's own, and Packaging/causeway-blkif.lua tells Wireshark of it.
    public static var linkType: UInt16 { 147 }

    /// See `TracedRecord`.
    public static var kind: TraceRequest.Kind { .disk }

    /// See `TracedRecord`.
    public init?(_ header: TraceHeader, _ region: SharedRegion, _ offset: Int, _ count: Int) {
        guard count >= 4 else { return nil }
        let packet = Int(region.load(offset, as: UInt32.self))
        guard packet <= count - 4, var event = BlockTraceEvent(region, offset + 4, packet) else { return nil }
        event.text = String(decoding: region.bytes(at: offset + 4 + packet, count: count - 4 - packet), as: UTF8.self)
        self.header = header
        self.event = event
        bytes = region.bytes(at: offset + 4, count: packet)
    }

    /// A request comes in, an answer goes out.
    public var packet: PcapngPacket {
        PcapngPacket(
            bytes: bytes, byteCount: bytes.count, direction: event.kind == .request ? .inbound : .outbound, isFrame: false,
            queue: Int(event.queue), comments: lines)
    }

    /// `queue 0 request id 17: read, 8 sectors from 2048, 1 segment: grant 9 sectors 0-7`.
    public var lines: [String] {
        let reason = event.text.isEmpty ? [] : [event.text]
        let name = "queue \(event.queue)"
        switch event.kind {
        case .answer:
            let time = event.nanoseconds == 0 ? "" : ", \(event.nanoseconds / 1000) µs after it was taken"
            return ["\(name) answer to id \(event.id): \(event.operation) \(event.status)\(time)"] + reason
        case .request:
            let place = event.operation == .flush ? "" : ", \(event.sectorCount) sectors from \(event.sector)"
            let count = event.segmentCount
            let segments =
                count == 0 ? "" : ", \(count) segment\(count == 1 ? "" : "s")\(event.isIndirect ? ", indirect" : "")"
            return ["\(name) request id \(event.id): \(event.operation)\(place)\(segments)"] + reason
                + event.segments.map { "\($0)" }
        }
    }
}
