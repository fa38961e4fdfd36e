// What a queue has taken from its rings, kept where it survives the process. A network may lose what was under way, but
// every slot must be answered, once, under its own id: a frontend that misses answers runs out of slots, and one that
// gets them twice takes its backend for broken. Answers are given in the order of the requests (a packet that is
// refused waits for those before it), so all that a successor needs is how far requests were taken, and of each what it
// was; how far they were answered stands in the rings.
//
// The order of stores: what a slot held, then the index behind it; only then may a response overwrite the slot. A kill
// needs no fences, only this order in the program; the power going takes the guest with it.

import DriverRuntime
import NetworkProtocol
import SharedMemory
import SharedRing
import XenTypes

/// One queue's journal: a page. Owned by the queue's thread.
struct InterfaceJournal {
    /// Byte offsets in the file.
    enum Layout {
        /// Behind the magic number: both rings' references and ports.
        static let transmitConsumed = 20
        static let receiveConsumed = 24
        /// Four bytes for each slot: the id, and bit 16 for extra information, which has none.
        static let transmitSlots = 64
        /// Eight bytes for each slot: the id, and from the fourth byte on the page.
        static let receiveSlots = 2048
        static let slots: UInt32 = 256
        static let byteCount = 4096
        /// `CWN` and the layout's version.
        static let magicValue: UInt32 = 0x014E_5743
        static let extra: UInt32 = 1 << 16
    }

    private let region: SharedRegion

    /// Begins the journal of rings that nothing was taken from.
    init(beginning region: SharedRegion, of keys: NetworkQueueKeys) {
        self.region = region
        Self.header(keys).begin(in: region)
    }

    /// How the journal of these rings begins.
    static func header(_ keys: NetworkQueueKeys) -> JournalHeader {
        JournalHeader(
            magic: Layout.magicValue,
            identity: [keys.transmit.rawValue, keys.receive.rawValue, keys.port.rawValue, keys.receivePort?.rawValue ?? 0])
    }

    /// Goes on with a predecessor's, in which everything already stands.
    init(resuming region: SharedRegion) { self.region = region }

    /// A packet was taken whose first slot is `index`.
    @inline(__always)
    func took(_ packet: borrowing TransmitPacket, at index: RingIndex) {
        var place = index
        for (number, part) in packet.parts.enumerated() {
            note(UInt32(part.id), &place)
            if number == 0 { for _ in 0..<packet.extraCount { note(Layout.extra, &place) } }
        }
        region.storeReleasing(place.rawValue, at: Layout.transmitConsumed)
    }

    @inline(__always)
    private func note(_ word: UInt32, _ place: inout RingIndex) {
        region.storeRelaxed(word, at: Layout.transmitSlots + 4 * Int(place.rawValue % Layout.slots))
        place = place.advanced(by: 1)
    }

    /// An empty page was taken from slot `index`.
    @inline(__always)
    func took(_ request: ReceiveRequest, at index: RingIndex) {
        let place = Layout.receiveSlots + 8 * Int(index.rawValue % Layout.slots)
        region.storeRelaxed(UInt32(request.id), at: place)
        region.storeRelaxed(request.reference.rawValue, at: place + 4)
        region.storeReleasing(index.advanced(by: 1).rawValue, at: Layout.receiveConsumed)
    }
}

/// What a killed backend left of one queue. Pure: it reads, and changes nothing.
struct InterfaceRecovery: Sendable {
    /// How far a ring's requests were taken, and answered.
    struct Place: Sendable {
        let consumed: RingIndex
        let published: RingIndex
        var unanswered: UInt32 { consumed - published }
    }

    let transmit: Place
    let receive: Place
    /// An answer for each slot that was taken and not answered, in order. Whether its packet was sent nobody knows: it
    /// counts as lost.
    let unanswered: [TransmitResponse]
    /// Pages that were taken and hold nothing that the frontend knows of, in order.
    let posted: [ReceiveRequest]

    /// Reads the journal of a queue; the rings tell how far it was answered. A frontend that lies there cheats itself,
    /// within these bounds.
    init(
        journal region: SharedRegion, of keys: NetworkQueueKeys, transmitRing: SharedRegion, receiveRing: SharedRegion
    ) throws(RecoveryError) {
        typealias Layout = InterfaceJournal.Layout
        try InterfaceJournal.header(keys).expect(in: region, byteCount: Layout.byteCount)
        func bounds(_ name: String, _ ring: SharedRegion, _ consumedAt: Int) throws(RecoveryError) -> Place {
            let consumed = RingIndex(region.loadRelaxed(consumedAt))
            let published = RingIndex(ring.loadAcquiring(RingHeader.responseProduced))
            guard consumed - published <= Layout.slots else {
                throw .indices("the \(name) ring's rsp_prod is \(published), where \(consumed) requests were taken")
            }
            return Place(consumed: consumed, published: published)
        }
        let transmit = try bounds("transmit", transmitRing, Layout.transmitConsumed)
        let receive = try bounds("receive", receiveRing, Layout.receiveConsumed)
        (self.transmit, self.receive) = (transmit, receive)
        unanswered = (0..<transmit.unanswered).map { number in
            let place = transmit.published.advanced(by: number).rawValue % Layout.slots
            let word = region.loadRelaxed(Layout.transmitSlots + 4 * Int(place))
            return TransmitResponse(id: UInt16(truncatingIfNeeded: word), status: word & Layout.extra == 0 ? .dropped : .null)
        }
        posted = (0..<receive.unanswered).map { number in
            let place = Layout.receiveSlots + 8 * Int(receive.published.advanced(by: number).rawValue % Layout.slots)
            return ReceiveRequest(
                id: UInt16(truncatingIfNeeded: region.loadRelaxed(place)), reference: GrantReference(region.loadRelaxed(place + 4)))
        }
    }
}
