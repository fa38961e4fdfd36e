// What one queue tells its tracers, packet by packet. There is none while nobody traces, and then the queue pays for a
// look at a null reference. On the queue's reactor thread.

import DeviceTrace
import NetworkProtocol
import NetworkTrace
import Packets
import SharedMemory
import XenTypes

/// The tracers of one queue.
final class QueueTrace {
    private let taps: [TraceTap]
    private let queue: Int
    /// What was taken and is not yet answered, by its place among those.
    private var waiting: [Int: Taken] = [:]
    /// Slots put on the receive ring since the last frame was told of.
    private var answers: [TraceSlot] = []
    private var pieces = FramePieces()

    private struct Taken {
        var slots: [TraceSlot]
        var byteCount: Int
        /// Where a packet's bytes are; empty for what is none.
        var parts: [TransmitPart] = []
        var text = ""
    }

    init(_ taps: [TraceTap], queue: Int) {
        self.taps = taps
        self.queue = queue
    }

    private func write(_ kind: TraceKind, _ status: NetworkStatus, _ text: String, _ slots: [TraceSlot], _ byteCount: Int) {
        let event = TraceEvent(
            kind, queue: queue, status: status, text: text, slots: slots, frame: TraceFrame(byteCount: byteCount, pieces: pieces))
        for tap in taps { tap.write(event) }
        pieces.removeAll()
    }

    // MARK: From the frontend

    /// A packet was taken off the transmit ring, or what is none; it will be answered in its turn.
    /// - Parameter place: its place among those that are to be answered.
    func assembled(_ packet: borrowing TransmitPacket, _ verdict: TransmitVerdict, at place: Int) {
        var taken = Taken(slots: packet.slots.map { TraceSlot($0) }, byteCount: packet.byteCount)
        switch verdict {
        case .packet: taken.parts = packet.parts
        case .drop(let rejection): taken.text = "dropped: \(rejection)"
        case .fatal(let rejection): taken.text = "the ring is broken: \(rejection)"
        case .multicast(let address, let isAdded):
            taken.text = "multicast \(address) \(isAdded ? "wanted" : "not wanted any more")"
            taken.byteCount = 0
        }
        waiting[place] = taken
    }

    /// It was sent, or refused. Its first bytes are at `head`; what lies behind is in its mapped pages or, where
    /// `isWhole`, there, too.
    func answered(
        _ place: Int, _ status: NetworkStatus, byteCount: Int, head: (region: SharedRegion, offset: Int, count: Int), isWhole: Bool,
        _ mappings: GrantMappings
    ) {
        // What was taken before the trace began has lost its slots: its head is all that is known.
        let known =
            waiting.removeValue(forKey: place) ?? Taken(slots: [], byteCount: byteCount, text: "taken before the trace began")
        pieces.append(head.region, head.offset, isWhole ? byteCount : head.count)
        var skip = head.count
        for part in isWhole ? [] : known.parts {
            let start = min(skip, Int(part.byteCount))
            skip -= start
            guard let page = mappings.grant(part.reference) else { break }
            if start < part.byteCount {
                pieces.append(page.region, page.offset + Int(part.offset) + start, Int(part.byteCount) - start)
            }
        }
        write(.transmit, status, known.text, known.slots, known.byteCount)
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
