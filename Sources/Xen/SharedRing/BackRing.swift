// The end of a ring that answers. Of the shared header it reads the frontend's two words and writes its own two; what
// the frontend writes into ours changes nothing here, for every decision rests on private indices.

import SharedMemory

/// A backend's end: takes requests, pushes responses. One thread's; pass it `inout`.
public struct BackRing<P: RingProtocol>: ~Copyable {
    /// The ring's memory.
    public let region: SharedRegion
    /// What the slots hold.
    public let contents: P
    /// Slots, and where they lie.
    public let geometry: RingGeometry

    /// Requests taken (`req_cons`).
    @usableFromInline var consumed: RingIndex
    /// The frontend's `req_prod` as last read and found credible; read again only when all up to it is consumed.
    @usableFromInline var available: RingIndex
    /// Responses written, published or not (`rsp_prod_pvt`).
    @usableFromInline var pushed: RingIndex
    /// Responses the frontend may see: our own copy, for it can write the shared one.
    @usableFromInline var published: RingIndex
    /// Why this ring is broken; nothing is taken from it any more.
    public var fault: RingError? { breach }
    @usableFromInline var breach: RingError?
    /// Whether `nextRequest` has said so.
    @usableFromInline var isBreachTold = false
    /// Notifications sent and saved.
    public var counters: RingCounters { tally }
    @usableFromInline var tally = RingCounters()
    /// Whoever makes it lie, for tests of its peer; nil: nobody. Looked at once a publication.
    public var tamper: (any RingTamper)?

    /// Attaches to a ring that no backend has answered on yet: indices start at `start`, 0 on the wire.
    public init(attaching region: SharedRegion, _ contents: P, startingAt start: RingIndex = RingIndex(0)) {
        self.region = region
        self.contents = contents
        geometry = RingGeometry(byteCount: region.byteCount, slotSize: contents.slotSize)
        consumed = start
        available = start
        pushed = start
        published = start
    }

    /// Takes over a ring in use, from where its last backend stopped: requests that were taken and not answered come
    /// again.
    ///
    /// Only after a backend that answered in order and published what it pushed. A response lies in the slot of the
    /// request with the same index, so a response given out of order, as disks do, has overwritten a request that is
    /// still to be answered, and no trace of it is left in the ring. After such a backend the frontend must begin a new
    /// ring and ask again.
    /// - Throws: `RingError.notAdoptable` if more requests are unanswered than there are slots.
    public init(adopting region: SharedRegion, _ contents: P) throws(RingError) {
        let geometry = RingGeometry(byteCount: region.byteCount, slotSize: contents.slotSize)
        let answered = RingIndex(region.loadAcquiring(RingHeader.responseProduced))
        let asked = RingIndex(region.loadAcquiring(RingHeader.requestProduced))
        guard asked - answered <= geometry.slotCount else {
            throw .notAdoptable(
                requestProduced: asked.rawValue, responseProduced: answered.rawValue, slots: geometry.slotCount)
        }
        self.init(attaching: region, contents, startingAt: answered)
    }

    /// Requests taken whose responses were not pushed.
    @inlinable public var unanswered: UInt32 { consumed - pushed }

    /// Requests known to wait, without a look at shared memory.
    @inlinable public var unconsumed: UInt32 { available - consumed }

    /// Whether a request can be taken: one load at most. True on a ring found broken, by whatever look at it, until
    /// `nextRequest` has said why.
    @inlinable @inline(__always)
    public mutating func hasRequests() -> Bool { available != consumed || refresh() }

    /// Takes the next request, a private copy; nil if there is none yet. Never more than can be answered.
    /// - Throws: `RingError.peerLies` if the frontend claims more requests than the ring has slots for, or fewer than
    ///   we took; then and ever after.
    @inlinable @inline(__always)
    public mutating func nextRequest() throws(RingError) -> P.Request? {
        guard try mayTake() else { return nil }
        let request = contents.loadRequest(region, geometry.offset(consumed))
        consumed.advance()
        return request
    }

    /// Takes the next request over `request`; false if there is none yet. The hot path: large requests are moved once.
    /// - Throws: as `nextRequest()`.
    @inlinable @inline(__always)
    public mutating func nextRequest(into request: inout P.Request) throws(RingError) -> Bool {
        guard try mayTake() else { return false }
        contents.loadRequest(region, geometry.offset(consumed), into: &request)
        consumed.advance()
        return true
    }

    @inlinable @inline(__always)
    mutating func mayTake() throws(RingError) -> Bool {
        if available != consumed { return true }
        let isNew = refresh()
        if let breach {
            isBreachTold = true
            throw breach
        }
        return isNew
    }

    /// Writes a response into the next slot. The frontend sees it after `publish()`.
    ///
    /// One response a request: a response to nothing is our own error and traps.
    @inlinable @inline(__always)
    public mutating func push(_ response: P.Response) {
        precondition(pushed != consumed, "a response without a request")
        contents.storeResponse(response, region, geometry.offset(pushed))
        pushed.advance()
    }

    /// Shows the frontend what was pushed; true if it must be notified.
    @inlinable
    public mutating func publish() -> Bool {
        let fresh = pushed - published
        guard fresh > 0 else { return false }
        if let tamper { return publish(by: tamper) }
        published = pushed
        return show(pushed, fresh)
    }

    /// Shows the peer a producer index, `fresh` slots behind which are new; true if it must be notified.
    @inlinable @inline(__always)
    mutating func show(_ index: RingIndex, _ fresh: UInt32) -> Bool {
        // Release: the slots before the index.
        region.storeReleasing(index.rawValue, at: RingHeader.responseProduced)
        // The index before the event: the frontend arms, then looks for responses; we show them, then look for its
        // arming.
        fullFence()
        let event = RingIndex(region.loadRelaxed(RingHeader.responseEvent))
        let notify = pushed - event < fresh
        tally.count(notify)
        return notify
    }

    /// Asks to be notified of the next request, then looks once more: true if it is there already and no notification
    /// can be relied on.
    ///
    /// Call it when `nextRequest` returned nil and before sleeping, for a request may come between the two
    /// (`FINAL_CHECK`). False for ever on a ring whose fault was told: it is not worth waking for.
    @inlinable
    public mutating func armAndRecheck() -> Bool {
        if breach != nil { return !isBreachTold }
        if available != consumed { return true }
        region.storeRelaxed(consumed.advanced(by: 1).rawValue, at: RingHeader.requestEvent)
        // Our arming before our look; see publish() of the other side.
        fullFence()
        return refresh()
    }

    /// Reads `req_prod` once; true if there is something new, or something wrong.
    @inlinable
    mutating func refresh() -> Bool {
        if breach != nil { return !isBreachTold }
        // Acquire: the index before the slots.
        let produced = RingIndex(region.loadAcquiring(RingHeader.requestProduced))
        // An honest frontend reuses a slot only once it saw its response, so what is published bounds it, and what is
        // pushed does not yet. A producer that went backwards shows as a distance near 2^32 and fails the same test.
        let limit = geometry.slotCount &- (consumed - published)
        guard produced - consumed <= limit else {
            breach = .peerLies(produced: produced.rawValue, consumed: consumed.rawValue, limit: limit)
            return true
        }
        available = produced
        return produced != consumed
    }

    /// `back ring of 32 slots: 7 consumed, 5 pushed, 5 published; 2 notifications, 1 saved`.
    public var description: String {
        "back ring of \(geometry.slotCount) slots: \(consumed) consumed, \(pushed) pushed, \(published) published; "
            + "\(counters.notificationsSent) notifications, \(counters.notificationsSuppressed) saved"
            + (fault.map { "; broken: \($0)" } ?? "")
    }
}
