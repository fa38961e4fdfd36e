// What one queue tells its tracers, packet by packet. There is none while nobody traces, and then the queue pays for a look at a null
// reference. On the queue's reactor thread.

import FrameTrace
import Packets
import SharedMemory
import XenWire

/// The tracers of one queue.
final class QueueTrace {
    private let taps: [TraceTap]
    private let queue: Int
    /// Packets that are prepared and not yet sent, by their place among those.
    private var prepared: [Int: (slots: [TraceSlot], parts: [TransmitPart])] = [:]
    /// Slots put on the receive ring since the last frame was told of.
    private var answers: [TraceSlot] = []
    private var pieces = FramePieces()

    init(_ taps: [TraceTap], queue: Int) {
        self.taps = taps
        self.queue = queue
    }

    private func write(_ kind: TraceKind, _ status: NetworkStatus, _ text: String, _ slots: [TraceSlot], _ byteCount: Int) {
        for tap in taps {
            tap.write(kind, queue: queue, status: status, text: text, slots: slots, byteCount: byteCount, pieces: pieces)
        }
        pieces.removeAll()
    }

    // MARK: From the frontend

    /// Something was taken off the transmit ring that is no packet to be sent: all there is to know of it is its slots.
    func assembled(_ packet: borrowing TransmitPacket, _ verdict: TransmitVerdict) {
        if case .packet = verdict { return }
        let slots = packet.slots.map { TraceSlot($0) }
        switch verdict {
        case .packet: break
        case .drop(let rejection): write(.transmit, .error, "dropped: \(rejection)", slots, packet.byteCount)
        case .fatal(let rejection): write(.transmit, .error, "the ring is broken: \(rejection)", slots, packet.byteCount)
        case .multicast(let address, let isAdded):
            write(.transmit, .okay, "multicast \(address) \(isAdded ? "wanted" : "not wanted")", slots, 0)
        }
    }

    /// A packet will be sent, in its turn.
    func prepared(_ packet: borrowing TransmitPacket, at place: Int) {
        prepared[place] = (packet.slots.map { TraceSlot($0) }, packet.parts)
    }

    /// It was sent, or refused. Its first bytes are at `head`; what lies behind is in its mapped pages or, where `isWhole`, there, too.
    func answered(
        _ place: Int, _ status: NetworkStatus, byteCount: Int, head: (region: SharedRegion, offset: Int, count: Int), isWhole: Bool,
        _ mappings: GrantMappings
    ) {
        let known = prepared.removeValue(forKey: place)
        pieces.append(head.region, head.offset, isWhole ? byteCount : head.count)
        var skip = head.count
        // A packet that was prepared before the trace began has lost its slots: its head is all that is known.
        for part in isWhole ? [] : known?.parts ?? [] {
            let start = min(skip, Int(part.byteCount))
            skip -= start
            guard let page = mappings.grant(part.reference) else { break }
            if start < part.byteCount {
                pieces.append(page.region, page.offset + Int(part.offset) + start, Int(part.byteCount) - start)
            }
        }
        write(.transmit, status, known == nil ? "taken before the trace began" : "", known?.slots ?? [], byteCount)
    }

    // MARK: To the frontend

    /// A slot was put on the receive ring, into the page that was posted there.
    func answered(_ slot: ReceiveSlot, page: GrantReference?) {
        answers.append(TraceSlot(slot, page: page ?? GrantReference(0)))
    }

    /// One piece of the frame that `received` is about to tell of.
    func append(_ region: SharedRegion, _ offset: Int, _ count: Int) { pieces.append(region, offset, count) }

    /// All slots of a frame are on the ring.
    func received(_ status: NetworkStatus, byteCount: Int) {
        write(.receive, status, "", answers, byteCount)
        answers.removeAll(keepingCapacity: true)
    }

    /// Something else happened.
    func note(_ text: String) { write(.note, .okay, text, [], 0) }
}
