// A Xen ring as whoever looks after its device sees it.

import DeviceControl
import DeviceState

/// Where the backend's side of a ring is.
public struct XenRingState: Sendable {
    /// Slots that the ring has.
    public let slots: Int
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
    public init(slots: Int, nextRequest: UInt32, nextResponse: UInt32, inWork: Int, fault: String?, isHeld: Bool) {
        self.slots = slots
        self.nextRequest = nextRequest
        self.nextResponse = nextResponse
        self.inWork = inWork
        self.fault = fault
        self.isHeld = isHeld
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
