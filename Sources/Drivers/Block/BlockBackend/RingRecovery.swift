// From a journal and a ring's shared indices to what is left to do. Pure: it reads, and changes nothing.

import BlockProtocol
import DriverRuntime
import SharedMemory
import SharedRing

/// What a killed backend left of one ring.
struct RingRecovery {
    /// A request that was taken and whose response the frontend has not seen.
    struct Unanswered {
        /// Its journal entry.
        let entry: Int32
        let index: RingIndex
        let request: BlockRequest
    }

    let slots: UInt32
    let consumed: RingIndex
    let published: RingIndex
    /// Oldest first, so that what a barrier ordered stays in order.
    let unanswered: [Unanswered]

    /// Reads the journal of the ring whose shared rsp_prod is `responseProduced`.
    ///
    /// A request is to be done again if it was taken and its response was not shown, whether or not it had been done:
    /// to the frontend it is in flight, and each operation of the protocol may be done twice. It is *not* ours yet if
    /// `consumed` does not cover it (its slot in the ring still has it), and no longer ours if its response's index
    /// lies before rsp_prod.
    init(journal region: SharedRegion, identity: RingIdentity, slots: UInt32, responseProduced: UInt32)
        throws(RecoveryError)
    {
        typealias Layout = RingJournal.Layout
        try identity.header(slots: slots).expect(in: region, byteCount: Layout.byteCount(slots: slots))
        let was = region.loadRelaxed(Layout.published)
        let willBe = region.loadRelaxed(Layout.publishing)
        // Anything else is the frontend's doing: it can write there. Its choice between these two only cheats itself.
        guard responseProduced == was || responseProduced == willBe else {
            throw .indices("the ring's rsp_prod is \(responseProduced), where the backend left \(was) or \(willBe)")
        }
        let shown = RingIndex(responseProduced)
        let consumed = RingIndex(region.loadRelaxed(Layout.consumed))
        var unanswered: [Unanswered] = []
        for entry in 0..<Int32(slots) {
            let place = RingJournal.offset(entry)
            let index = RingIndex(region.loadRelaxed(place + Layout.requestIndex))
            let answer = RingIndex(region.loadRelaxed(place + Layout.responseIndex))
            let isOurs =
                switch RingJournal.EntryState(rawValue: region.loadRelaxed(place)) {
                case .taken: index != consumed
                case .answered: answer - shown < slots
                case .free, nil: false
                }
            guard isOurs else { continue }
            var request = BlockRequest()
            region.copyIn(place + Layout.request, into: &request, byteCount: Layout.requestSize)
            unanswered.append(Unanswered(entry: entry, index: index, request: request))
        }
        guard unanswered.count == Int(consumed - shown) else {
            throw .indices("the journal has \(unanswered.count) unanswered requests, the indices \(consumed - shown)")
        }
        self.slots = slots
        self.consumed = consumed
        published = shown
        // By age: the distance to `consumed`, which does not wrap where the index does.
        self.unanswered = unanswered.sorted { consumed - $0.index > consumed - $1.index }
    }
}
