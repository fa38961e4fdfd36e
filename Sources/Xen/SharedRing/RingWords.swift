// A ring's header as whoever looks on reads it.

import SharedMemory

/// The four words that both sides share, at one moment or nearly. The frontend can write them all; nothing is decided
/// by them here.
public struct RingWords: Equatable, Sendable {
    /// Requests that the frontend has published (`req_prod`).
    public let requestProduced: UInt32
    /// The request at which the backend wants to be notified (`req_event`).
    public let requestEvent: UInt32
    /// Responses that the backend has published (`rsp_prod`).
    public let responseProduced: UInt32
    /// The response at which the frontend wants to be notified (`rsp_event`).
    public let responseEvent: UInt32

    /// Reads a ring's header.
    public init(_ region: SharedRegion) {
        requestProduced = region.loadAcquiring(RingHeader.requestProduced)
        requestEvent = region.loadRelaxed(RingHeader.requestEvent)
        responseProduced = region.loadAcquiring(RingHeader.responseProduced)
        responseEvent = region.loadRelaxed(RingHeader.responseEvent)
    }
}
