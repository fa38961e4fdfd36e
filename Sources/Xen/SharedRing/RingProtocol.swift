// What a ring carries. The rings know indices, slots and events; what is in a slot is a protocol's business.

import SharedMemory

/// How one protocol lays its requests and responses out in a slot. A value, so that an ABI is chosen at connect time.
public protocol RingProtocol: Sendable {
    associatedtype Request
    associatedtype Response
    /// Bytes of a slot: the larger of request and response, as the ABI pads them. More than 0.
    var slotSize: Int { get }
    /// Copies a request out of the slot at byte `offset`, each shared byte loaded once.
    func loadRequest(_ region: SharedRegion, _ offset: Int) -> Request
    func storeRequest(_ request: Request, _ region: SharedRegion, _ offset: Int)
    /// As `loadRequest`, into a place that is used again and again: a block request's 112 bytes are not moved once
    /// more.
    func loadRequest(_ region: SharedRegion, _ offset: Int, into request: inout Request)
    /// As `storeRequest`, from where the request stands; it is not changed.
    func storeRequest(from request: inout Request, _ region: SharedRegion, _ offset: Int)
    func loadResponse(_ region: SharedRegion, _ offset: Int) -> Response
    /// Every byte of the response is written, padding as zero (attacks.md A2, B5).
    func storeResponse(_ response: Response, _ region: SharedRegion, _ offset: Int)
}

extension RingProtocol {
    /// See `RingProtocol.loadRequest`.
    @inlinable @inline(__always)
    public func loadRequest(_ region: SharedRegion, _ offset: Int, into request: inout Request) {
        request = loadRequest(region, offset)
    }

    /// See `RingProtocol.storeRequest`.
    @inlinable @inline(__always)
    public func storeRequest(from request: inout Request, _ region: SharedRegion, _ offset: Int) {
        storeRequest(request, region, offset)
    }
}
