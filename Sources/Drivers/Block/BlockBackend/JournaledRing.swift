// A ring whose backend may be killed: the ring's verbs, each with its entry in the journal in the one right order.
// Without a journal it is the ring and nothing more.

import BlockProtocol
import SharedMemory
import SharedRing

/// A ring and, if there is one, its journal.
struct JournaledRing: ~Copyable {
    private var ring: BackRing<BlockRing>
    private var journal: RingJournal?
    /// What a predecessor had taken, youngest first; given out before anything new.
    private var leftOver: [RingRecovery.Unanswered] = []

    /// No journal entry: the ring has no journal.
    static let noTicket: Int32 = -1

    /// A ring that nothing was taken from, and memory for its journal, which has been begun there.
    init(
        attaching region: SharedRegion, _ abi: BlockABI, journal memory: SharedRegion?,
        startingAt start: RingIndex = RingIndex(0)
    ) {
        ring = BackRing(attaching: region, BlockRing(abi), startingAt: start)
        journal = memory.map { RingJournal($0, slots: ring.geometry.slotCount) }
    }

    /// A ring that a killed backend left.
    init(resuming region: SharedRegion, _ abi: BlockABI, journal memory: SharedRegion, _ recovery: RingRecovery)
        throws(RingError)
    {
        ring = try BackRing(
            resuming: region, BlockRing(abi), consumed: recovery.consumed, published: recovery.published)
        journal = RingJournal(memory, resuming: recovery)
        leftOver = recovery.unanswered.reversed()
    }

    /// For tests: called after each of the journal's ordered stores.
    var observer: (() -> Void)? {
        get { journal?.observer }
        set { journal?.observer = newValue }
    }

    /// Whoever makes it lie, for tests of its peer.
    var tamper: (any RingTamper)? {
        get { ring.tamper }
        set { ring.tamper = newValue }
    }

    var geometry: RingGeometry { ring.geometry }
    var counters: RingCounters { ring.counters }
    var nextRequestIndex: RingIndex { ring.nextRequestIndex }
    var nextResponseIndex: RingIndex { ring.nextResponseIndex }

    @inline(__always)
    mutating func hasRequests() -> Bool { !leftOver.isEmpty || ring.hasRequests() }

    /// Takes the next request over `request`; false if there is none. Its answer must name the ticket.
    @inline(__always)
    mutating func nextRequest(into request: inout BlockRequest, ticket: inout Int32) throws(RingError) -> Bool {
        if !leftOver.isEmpty, let old = leftOver.popLast() {
            request = old.request
            ticket = old.entry
            return true
        }
        let index = ring.nextRequestIndex
        guard try ring.nextRequest(into: &request) else { return false }
        // The ring never gives out more than its slots hold, and the journal has an entry for each.
        ticket = journal?.take(&request, at: index) ?? Self.noTicket
        return true
    }

    @inline(__always)
    mutating func push(_ response: BlockResponse, ticket: Int32) {
        if ticket >= 0 { journal?.answer(ticket, at: ring.nextResponseIndex) }
        ring.push(response)
    }

    @inline(__always)
    mutating func publish() -> Bool {
        guard journal != nil else { return ring.publish() }
        let index = ring.nextResponseIndex
        guard ring.hasUnpublished else { return false }
        journal?.willPublish(index)
        let notify = ring.publish()
        journal?.didPublish(index)
        return notify
    }

    mutating func armAndRecheck() -> Bool { !leftOver.isEmpty || ring.armAndRecheck() }
}
