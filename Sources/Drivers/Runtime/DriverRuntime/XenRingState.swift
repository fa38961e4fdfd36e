// A Xen ring as whoever looks after its device sees it.

import DeviceControl
import DeviceState
import SharedRing

/// Where the backend's side of a ring is.
public struct XenRingState: Sendable {
    /// Slots that the ring has.
    public let slots: Int
    /// What both sides say to each other.
    public let words: RingWords
    /// The index of the next request to be taken (`req_cons`).
    public let nextRequest: UInt32
    /// The index of the next response to be written (`rsp_prod_pvt`).
    public let nextResponse: UInt32
    /// Requests that were taken and have not ended.
    public let inWork: Int
    /// What the frontend did to the ring.
    public let fault: String?
    /// Whether nothing is taken from the frontend.
    public let isHeld: Bool

    /// As given.
    public init(
        slots: Int, words: RingWords, nextRequest: UInt32, nextResponse: UInt32, inWork: Int, fault: String?, isHeld: Bool
    ) {
        self.slots = slots
        self.words = words
        self.nextRequest = nextRequest
        self.nextResponse = nextResponse
        self.inWork = inWork
        self.fault = fault
        self.isHeld = isHeld
    }

    /// As a person looks at it. Indices are as Xen's header names them, `req_prod` and so on.
    public func report(_ name: String, doorbells: [RingReport.Field], requests: [[RingReport.Field]]) -> RingReport {
        var notes: [String] = []
        if let fault { notes.append("broken: \(fault)") }
        if isHeld { notes.append("paused: nothing is taken until `causeway device do … resume`") }
        let untaken = words.requestProduced &- nextRequest
        // What the frontend claims is not believed here either.
        if untaken > UInt32(slots) {
            notes.append("the frontend's req_prod is \(words.requestProduced), which no ring of \(slots) slots allows")
        }
        if words.responseProduced != nextResponse, !isHeld, fault == nil, words.responseProduced &- nextResponse < 1 << 31 {
            notes.append("rsp_prod is \(words.responseProduced), where this backend left \(nextResponse) at most: overwritten")
        }
        return RingReport(
            name,
            fields: [
                .init("slots", slots), .init("req_prod", words.requestProduced), .init("req_cons", nextRequest),
                .init("req_event", words.requestEvent), .init("rsp_prod", words.responseProduced),
                .init("rsp_prod_pvt", nextResponse), .init("rsp_event", words.responseEvent), .init("in-work", inWork),
            ] + doorbells, notes: notes, requests: requests)
    }

    /// As attributes of a queue.
    public func attributes(_ queue: Int) -> [DeviceState.Attribute] {
        var all = [
            DevicePropertyKey.slots.attribute(UInt64(slots), queue: queue),
            DevicePropertyKey.nextRequest.attribute(UInt64(nextRequest), queue: queue),
            DevicePropertyKey.nextResponse.attribute(UInt64(nextResponse), queue: queue),
            DevicePropertyKey.inFlight.attribute(UInt64(inWork), queue: queue),
        ]
        if let fault { all.append(DevicePropertyKey.fault.attribute(fault, queue: queue)) }
        return all
    }
}
