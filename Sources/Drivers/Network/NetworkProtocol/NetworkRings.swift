// The network protocol's three rings (xen/io/netif.h). Their slots hold requests and extra information side by side, so
// what is loaded is the slot's bytes, and what they are is decided above.

import SharedMemory
import SharedRing

/// Frames from frontend to backend (`netif_tx`).
public struct TransmitRing: RingProtocol {
    /// The protocol; it has no state.
    @inlinable public init() {}
    /// Bytes of a slot.
    @inlinable public var slotSize: Int { TransmitRequest.size }
    /// The request at byte `offset`, each byte loaded once.
    @inlinable @inline(__always)
    public func loadRequest(_ region: SharedRegion, _ offset: Int) -> TransmitSlot { TransmitSlot(loading: region, offset) }
    /// Stores every byte of a request.
    @inlinable @inline(__always)
    public func storeRequest(_ request: TransmitSlot, _ region: SharedRegion, _ offset: Int) { request.store(region, offset) }
    /// The response at byte `offset`, each byte loaded once.
    @inlinable @inline(__always)
    public func loadResponse(_ region: SharedRegion, _ offset: Int) -> TransmitResponse {
        TransmitResponse(loading: region, offset)
    }
    /// Stores every byte of a response.
    @inlinable @inline(__always)
    public func storeResponse(_ response: TransmitResponse, _ region: SharedRegion, _ offset: Int) {
        response.store(region, offset)
    }
}

/// Frames from backend to frontend (`netif_rx`): the frontend's requests are empty pages.
public struct ReceiveRing: RingProtocol {
    /// The protocol; it has no state.
    @inlinable public init() {}
    /// Bytes of a slot.
    @inlinable public var slotSize: Int { ReceiveRequest.size }
    /// The request at byte `offset`, each byte loaded once.
    @inlinable @inline(__always)
    public func loadRequest(_ region: SharedRegion, _ offset: Int) -> ReceiveRequest { ReceiveRequest(loading: region, offset) }
    /// Stores every byte of a request.
    @inlinable @inline(__always)
    public func storeRequest(_ request: ReceiveRequest, _ region: SharedRegion, _ offset: Int) {
        request.store(region, offset)
    }
    /// The response at byte `offset`, each byte loaded once.
    @inlinable @inline(__always)
    public func loadResponse(_ region: SharedRegion, _ offset: Int) -> ReceiveSlot { ReceiveSlot(loading: region, offset) }
    /// Stores every byte of a response.
    @inlinable @inline(__always)
    public func storeResponse(_ response: ReceiveSlot, _ region: SharedRegion, _ offset: Int) {
        response.store(region, offset)
    }
}

/// Hashes and mappings (`xen_netif_ctrl`).
public struct ControlRing: RingProtocol {
    /// The protocol; it has no state.
    public init() {}
    /// Bytes of a slot.
    public var slotSize: Int { ControlRequest.size }
    /// The request at byte `offset`, each byte loaded once.
    public func loadRequest(_ region: SharedRegion, _ offset: Int) -> ControlRequest { ControlRequest(loading: region, offset) }
    /// Stores every byte of a request.
    public func storeRequest(_ request: ControlRequest, _ region: SharedRegion, _ offset: Int) { request.store(region, offset) }
    /// The response at byte `offset`, each byte loaded once.
    public func loadResponse(_ region: SharedRegion, _ offset: Int) -> ControlResponse {
        ControlResponse(loading: region, offset)
    }
    /// Stores every byte of a response.
    public func storeResponse(_ response: ControlResponse, _ region: SharedRegion, _ offset: Int) {
        response.store(region, offset)
    }
}

extension BackRing<TransmitRing>: TransmitSlotSource {
    /// The next slot, whichever kind it is.
    @inlinable @inline(__always)
    public mutating func nextTransmitSlot() throws(RingError) -> TransmitSlot? { try nextRequest() }
}
