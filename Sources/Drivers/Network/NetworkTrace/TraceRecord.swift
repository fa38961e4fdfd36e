// What a tracer is told of one packet: numbers, the ring's slots as they were, the frame's first bytes. This file: the
// record's layout in the ring between a backend and a tracer, both of one build and one host.

import DeviceTrace
import NetworkProtocol
import SharedMemory
import XenTypes

/// What a record is about.
public enum TraceKind: UInt16, Sendable {
    /// A packet of the frontend's on the transmit ring.
    case transmit = 1
    /// A packet for the frontend on the receive ring.
    case receive = 2
    /// Something else worth knowing; its text says it all.
    case note = 3
}

/// One ring slot, as it was on the ring and with what belongs to it.
public struct TraceSlot: Hashable, Sendable {
    /// The slot's first eight bytes.
    public var first: UInt64
    /// Transmit: the last four. Receive: the page that the frontend had posted there.
    public var second: UInt64

    /// A slot of the transmit ring.
    public init(_ slot: TransmitSlot) {
        let request = slot.request
        first = slot.extra.word
        second = UInt64(request.id) | UInt64(request.size) << 16
    }

    /// A slot of the receive ring, and the page that was posted in it.
    public init(_ slot: ReceiveSlot, page: GrantReference) {
        first = slot.extra.word
        second = UInt64(page.rawValue)
    }

    init(first: UInt64, second: UInt64) {
        self.first = first
        self.second = second
    }

    /// The slot as a transmit request.
    public var request: TransmitRequest {
        TransmitRequest(
            reference: GrantReference(UInt32(truncatingIfNeeded: first)), offset: UInt16(truncatingIfNeeded: first >> 32),
            flags: TransmitFlags(rawValue: UInt16(truncatingIfNeeded: first >> 48)), id: UInt16(truncatingIfNeeded: second),
            size: UInt16(truncatingIfNeeded: second >> 16))
    }

    /// The slot as extra information, of either ring.
    public var extra: ExtraInfo { ExtraInfo(word: first) }

    /// The slot as a receive response.
    public var response: ReceiveResponse {
        ReceiveResponse(
            id: UInt16(truncatingIfNeeded: first), offset: UInt16(truncatingIfNeeded: first >> 16),
            flags: ReceiveFlags(rawValue: UInt16(truncatingIfNeeded: first >> 32)),
            status: Int16(bitPattern: UInt16(truncatingIfNeeded: first >> 48)))
    }

    /// The page that a receive slot's answer lies in.
    public var page: GrantReference { GrantReference(UInt32(truncatingIfNeeded: second)) }
}

/// One packet, or one note, as a tracer has it.
public struct TraceRecord: TracedRecord, Equatable {
    /// When, and what was lost before.
    public var header: TraceHeader
    /// What it is about.
    public var kind: TraceKind
    /// Which of the interface's queues.
    public var queue: Int
    /// How the packet was answered.
    public var status: NetworkStatus
    /// Why it was not taken, or what a note says.
    public var text: String
    /// The ring's slots, in order.
    public var slots: [TraceSlot]
    /// The frame's bytes, the first of them.
    public var bytes: [UInt8]
    /// How many the frame has.
    public var byteCount: Int

    enum Place {
        static let byteCount = 0
        static let captured = 4
        static let kind = 8
        static let queue = 10
        static let slots = 12
        static let text = 14
        static let status = 16
        static let rest = 20
        static let slot = 16
    }

    /// See `TracedRecord`.
    public init?(_ header: TraceHeader, _ region: SharedRegion, _ offset: Int, _ count: Int) {
        guard count >= Place.rest else { return nil }
        let slotCount = Int(region.load(offset + Place.slots, as: UInt16.self))
        let textCount = Int(region.load(offset + Place.text, as: UInt16.self))
        let captured = Int(region.load(offset + Place.captured, as: UInt32.self))
        guard let kind = TraceKind(rawValue: region.load(offset + Place.kind)),
            Place.rest + slotCount * Place.slot + textCount + captured == count
        else { return nil }
        self.header = header
        self.kind = kind
        queue = Int(region.load(offset + Place.queue, as: UInt16.self))
        status = NetworkStatus(rawValue: region.load(offset + Place.status))
        byteCount = Int(region.load(offset + Place.byteCount, as: UInt32.self))
        var place = offset + Place.rest
        slots = []
        for _ in 0..<slotCount {
            slots.append(TraceSlot(first: region.load(place), second: region.load(place + 8)))
            place += Place.slot
        }
        text = String(decoding: region.bytes(at: place, count: textCount), as: UTF8.self)
        bytes = region.bytes(at: place + textCount, count: captured)
    }
}

extension TraceRecord {
    /// See `TracedRecord`.
    public static var kind: TraceRequest.Kind { .interface }
    /// LINKTYPE_ETHERNET.
    public static var linkType: UInt16 { 1 }

    /// A packet, or a note as a packet without bytes.
    ///
    /// Directions are those of the interface on the backend's side, as `tcpdump -i vif1.0` has them on a Xen host: what
    /// the frontend transmits comes in.
    public var packet: PcapngPacket {
        let direction: PcapngPacket.Direction =
            switch kind {
            case .transmit: .inbound
            case .receive: .outbound
            case .note: .none
            }
        return PcapngPacket(
            bytes: bytes, byteCount: byteCount, direction: direction, isFrame: true, queue: queue, comments: comments)
    }

    /// As a person reads it.
    public var lines: [String] {
        let size = kind == .note ? "" : "\(byteCount) bytes, "
        return ["\(size)\(comments.first ?? "")"] + comments.dropFirst()
    }
}
