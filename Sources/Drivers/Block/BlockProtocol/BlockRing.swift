// The block protocol on a ring.

import SharedMemory
import SharedRing

/// Block requests and responses in the layout of one ABI.
public struct BlockRing: RingProtocol {
    /// Where the fields lie.
    public let layout: BlockLayout

    /// The block protocol as a frontend of `abi` speaks it.
    @inlinable public init(_ abi: BlockABI) { layout = abi.layout }

    /// See `RingProtocol.slotSize`.
    @inlinable public var slotSize: Int { layout.slotSize }

    /// See `RingProtocol.loadRequest`.
    @inlinable @inline(__always)
    public func loadRequest(_ region: SharedRegion, _ offset: Int) -> BlockRequest { layout.loadRequest(region, offset) }

    /// See `RingProtocol.storeRequest`.
    @inlinable @inline(__always)
    public func storeRequest(_ request: BlockRequest, _ region: SharedRegion, _ offset: Int) {
        layout.storeRequest(request, region, offset)
    }

    /// See `RingProtocol.loadRequest`.
    @inlinable @inline(__always)
    public func loadRequest(_ region: SharedRegion, _ offset: Int, into request: inout BlockRequest) {
        layout.loadRequest(region, offset, into: &request)
    }

    /// See `RingProtocol.storeRequest`.
    @inlinable @inline(__always)
    public func storeRequest(from request: inout BlockRequest, _ region: SharedRegion, _ offset: Int) {
        layout.storeRequest(from: &request, region, offset)
    }

    /// See `RingProtocol.loadResponse`.
    @inlinable @inline(__always)
    public func loadResponse(_ region: SharedRegion, _ offset: Int) -> BlockResponse { layout.loadResponse(region, offset) }

    /// See `RingProtocol.storeResponse`.
    @inlinable @inline(__always)
    public func storeResponse(_ response: BlockResponse, _ region: SharedRegion, _ offset: Int) {
        layout.storeResponse(response, region, offset)
    }
}
