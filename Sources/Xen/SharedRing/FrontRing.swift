// The end of a ring that asks. Its decisions rest on private indices; of the shared header it reads the backend's two
// words and writes its own two.

import SharedMemory

/// A frontend's end: pushes requests, takes responses. One thread's; pass it `inout`.
public struct FrontRing<P: RingProtocol>: ~Copyable {
    /// The ring's memory.
    public let region: SharedRegion
    /// What the slots hold.
    public let contents: P
    /// Slots, and where they lie.
    public let geometry: RingGeometry

    /// Requests written, published or not (`req_prod_pvt`).
    @usableFromInline var pushed: RingIndex
    /// Requests the backend may see: our own copy, for the shared one is not ours alone to write.
    @usableFromInline var published: RingIndex
    /// Responses taken (`rsp_cons`).
    @usableFromInline var consumed: RingIndex
    /// The backend's `rsp_prod` as last read and found credible; read again only when all up to it is consumed.
    @usableFromInline var available: RingIndex
    /// Why this ring is broken; nothing is taken from it any more.
    public var fault: RingError? { breach }
    @usableFromInline var breach: RingError?
    /// Whether `nextResponse` has said so.
    @usableFromInline var isBreachTold = false
    /// Notifications sent and saved.
    public var counters: RingCounters { tally }
    @usableFromInline var tally = RingCounters()
    /// Whoever makes it lie, for tests of its peer; nil: nobody. Looked at once a publication.
    public var tamper: (any RingTamper)?

    /// Begins a ring: zeroes its header; both event indices are 1, so that the first entry each way wakes the other
    /// side.
    /// - Parameters:
    ///   - region: 1 to 32 pages, writable.
    ///   - contents: what the slots hold.
    ///   - start: where all indices begin; 0 on the wire, others for tests of wrap-around.
    public init(initialising region: SharedRegion, _ contents: P, startingAt start: RingIndex = RingIndex(0)) {
        self.region = region
        self.contents = contents
        geometry = RingGeometry(byteCount: region.byteCount, slotSize: contents.slotSize)
        pushed = start
        published = start
        consumed = start
        available = start
        region.fill(0, count: RingHeader.size)
        region.storeRelaxed(start.rawValue, at: RingHeader.requestProduced)
        region.storeRelaxed(start.rawValue, at: RingHeader.responseProduced)
        region.storeRelaxed(start.advanced(by: 1).rawValue, at: RingHeader.requestEvent)
        // Whoever learns of the ring through the store must find it whole.
        region.storeReleasing(start.advanced(by: 1).rawValue, at: RingHeader.responseEvent)
    }

    /// Requests that were pushed and whose responses were not taken.
    @inlinable public var outstanding: UInt32 { pushed - consumed }

    /// Requests that `push` would take now.
    @inlinable public var freeSlots: UInt32 { geometry.slotCount &- outstanding }

    /// Writes a request into the next slot; false if none is free. The backend sees it after `publish()`.
    @inlinable @inline(__always)
    public mutating func push(_ request: P.Request) -> Bool {
        guard pushed - consumed < geometry.slotCount else { return false }
        contents.storeRequest(request, region, geometry.offset(pushed))
        pushed.advance()
        return true
    }

    /// Writes a request as `push(_:)` does, from where it stands. The hot path: large requests are moved once.
    @inlinable @inline(__always)
    public mutating func push(from request: inout P.Request) -> Bool {
        guard pushed - consumed < geometry.slotCount else { return false }
        contents.storeRequest(from: &request, region, geometry.offset(pushed))
        pushed.advance()
        return true
    }

    /// Shows the backend what was pushed; true if it must be notified.
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
        region.storeReleasing(index.rawValue, at: RingHeader.requestProduced)
        // The index before the event: the backend arms, then looks for work; we show work, then look for its arming.
        fullFence()
        let event = RingIndex(region.loadRelaxed(RingHeader.requestEvent))
        let notify = pushed - event < fresh
        tally.count(notify)
        return notify
    }

    /// Whether the backend has been shown a request that it asked to be notified of and has not taken up: where that
    /// does not pass by itself, a notification was lost. True as well while it works without asking for notifications.
    @inlinable
    public var hasUnheardRequests: Bool {
        // A mark at or before what was answered is old: who answered has seen the request.
        published - RingIndex(region.loadRelaxed(RingHeader.requestEvent)) < published - consumed
    }

    /// Whether a response can be taken: one load at most. True on a ring found broken, by whatever look at it, until
    /// `nextResponse` has said why.
    @inlinable @inline(__always)
    public mutating func hasResponses() -> Bool { available != consumed || refresh() }

    /// Takes the next response; nil if there is none yet.
    /// - Throws: `RingError.peerLies` if the backend claims more responses than we have requests out, then and ever
    ///   after.
    @inlinable @inline(__always)
    public mutating func nextResponse() throws(RingError) -> P.Response? {
        if available == consumed {
            let isNew = refresh()
            if let breach {
                isBreachTold = true
                throw breach
            }
            if !isNew { return nil }
        }
        let response = contents.loadResponse(region, geometry.offset(consumed))
        consumed.advance()
        return response
    }

    /// Asks to be notified of a response, then looks once more: true if it is there already and no notification can be
    /// relied on.
    ///
    /// Call it when `nextResponse` returned nil and before sleeping, for a response may come between the two
    /// (`FINAL_CHECK`).
    /// - Parameter count: wake us when so many responses are there; at least 1, at most what is outstanding.
    @inlinable
    public mutating func armAndRecheck(for count: UInt32 = 1) -> Bool {
        if breach != nil { return !isBreachTold }
        let wanted = max(1, min(count, published - consumed))
        if available - consumed >= wanted { return true }
        region.storeRelaxed(consumed.advanced(by: wanted).rawValue, at: RingHeader.responseEvent)
        // Our arming before our look; see publish() of the other side.
        fullFence()
        return refresh() && (breach != nil || available - consumed >= wanted)
    }

    /// Reads `rsp_prod` once; true if there is something new, or something wrong.
    @inlinable
    mutating func refresh() -> Bool {
        if breach != nil { return !isBreachTold }
        // Acquire: the index before the slots.
        let produced = RingIndex(region.loadAcquiring(RingHeader.responseProduced))
        let limit = published - consumed
        guard produced - consumed <= limit else {
            breach = .peerLies(produced: produced.rawValue, consumed: consumed.rawValue, limit: limit)
            return true
        }
        available = produced
        return produced != consumed
    }

    /// `front ring of 32 slots: 7 pushed, 7 published, 5 consumed; 2 notifications, 1 saved`.
    public var description: String {
        "front ring of \(geometry.slotCount) slots: \(pushed) pushed, \(published) published, \(consumed) consumed; "
            + "\(counters.notificationsSent) notifications, \(counters.notificationsSuppressed) saved"
            + (fault.map { "; broken: \($0)" } ?? "")
    }
}
