// A ring's end that lies on purpose: what strikes is a FaultBook's to say, and what a slot is a SlotForm's. One ring's,
// on its thread.

import DeviceFaults
import LinuxSystem
import SharedMemory
import SharedRing

/// Spoils what one end of one ring shows.
public final class RingSpoiler: RingTamper {
    private let book: FaultBook
    private let form: SlotForm
    private let toward: FaultSide?
    private let time: any TimeSource
    /// What is to come a second time, in the place of the next slot of another request.
    private var copy: (id: UInt64, bytes: [UInt8])?
    /// How far the index that is shown is from the true one. A lie is kept to: it would else be gone with the next
    /// publication, which a peer that is busy takes for the first.
    private var lie: UInt32 = 0

    private static let slotKinds: [DeviceFault] = [.corruptID, .corruptStatus, .corruptGrant]

    /// - Parameter toward: whose ring it is, of those that have one for each direction.
    public init(_ book: FaultBook, _ form: SlotForm, toward: FaultSide? = nil, time: any TimeSource) {
        self.book = book
        self.form = form
        self.toward = toward
        self.time = time
    }

    /// See `RingTamper.spoil`.
    public func spoil(_ batch: RingBatch) -> RingIndex {
        // A backend's answers wait one by one, with the device; a frontend is late with all that it asks.
        if book.side == .front {
            for strike in book.strikes([.delay, .stall], toward: toward) { wait(strike) }
        }
        for offset in form.isEverySlot ? batch.offsets : Array(batch.offsets.prefix(1)) { spoil(batch.region, offset) }
        if book.side == .back, book.subject == .block { repeatSlots(batch) }
        if let strike = book.strike(.corruptIndex, toward: toward) { lie = Self.distance(batch, strike.random) }
        return batch.end.advanced(by: lie)
    }

    /// See `RingTamper.swallowsNotification`.
    public func swallowsNotification() -> Bool { book.strike(.dropEvent, toward: toward) != nil }

    /// Until it is over, or undone.
    private func wait(_ strike: FaultStrike) {
        let end = time.deadline(milliseconds: Int(clamping: strike.milliseconds))
        while book.has(strike.kind) {
            let now = time.nanoseconds
            if now >= end { return }
            time.sleep(nanoseconds: min(end - now, 10_000_000))
        }
    }

    private func spoil(_ region: SharedRegion, _ offset: Int) {
        for kind in Self.slotKinds where form.takes(kind, region, offset) {
            guard let strike = book.strike(kind, toward: toward) else { continue }
            form.spoil(kind, region, offset, strike.random)
        }
    }

    private func repeatSlots(_ batch: RingBatch) {
        for offset in batch.offsets {
            let id = form.id(batch.region, offset)
            if let first = copy {
                guard id != first.id else { continue }
                batch.region.write(first.bytes, at: offset)
                copy = nil
            } else if book.strike(.duplicate, toward: toward) != nil {
                copy = (id, batch.region.bytes(at: offset, count: batch.geometry.slotSize))
            }
        }
    }

    /// Further than any ring allows, or back behind what the peer has taken.
    private static func distance(_ batch: RingBatch, _ random: UInt64) -> UInt32 {
        let distance = 2 &* batch.geometry.slotCount &+ 1 &+ UInt32(truncatingIfNeeded: random >> 1 & 0xFFFF)
        return random & 1 == 0 ? distance : 0 &- distance
    }
}
