// Requests and responses in and out of a ring's slots. Every shared byte that is loaded is loaded once, into a private
// value; the number of segments to load is decided on the private copy of the count (attacks.md A1, A36).

import SharedMemory

extension BlockLayout {
    /// Copies the request out of the slot at byte `slot`.
    @inlinable @inline(__always)
    public func loadRequest(_ region: SharedRegion, _ slot: Int) -> BlockRequest {
        var request = BlockRequest()
        loadRequest(region, slot, into: &request)
        return request
    }

    /// Copies the request out of the slot at byte `slot`, over `request`. What it does not have (segments past its
    /// count) stays as it was in `request`: private, and nobody's to look at.
    @inlinable @inline(__always)
    public func loadRequest(_ region: SharedRegion, _ slot: Int, into request: inout BlockRequest) {
        let first: UInt32 = region.load(slot)
        request.id = region.load(slot &+ id)
        request.sector = region.load(slot &+ sector)
        let code = UInt64(first & 0xFF)
        let second = UInt64(first >> 8 & 0xFF)
        let upper = UInt64(first >> 16)
        switch BlockOperationCode(rawValue: UInt8(truncatingIfNeeded: code)) {
        case .discard:
            request.head = code | second << 8 | upper << 32
            request.payload[0] = region.load(slot &+ payload)
        case .indirect:
            let handle: UInt16 = region.load(slot &+ payload)
            request.head = code | second << 8 | upper << 16 | UInt64(handle) << 32
            region.copyIn(slot &+ indirectReferences, into: &request.payload, byteCount: 4 * BlockLimits.maximumIndirectPages)
        default:
            request.head = code | second << 16 | upper << 32
            let count = min(Int(second), BlockLimits.maximumDirectSegments)
            region.copyIn(slot &+ payload, into: &request.payload, byteCount: count * BlockSegment.size)
        }
    }

    /// Stores a request into the slot at byte `slot`, its padding as zero: the other side learns nothing of our stack.
    @inlinable @inline(__always)
    public func storeRequest(_ request: BlockRequest, _ region: SharedRegion, _ slot: Int) {
        var copy = request
        storeRequest(from: &copy, region, slot)
    }

    /// Stores a request as `storeRequest` does, from where it stands: it is not changed, only not copied.
    @inlinable @inline(__always)
    public func storeRequest(from request: inout BlockRequest, _ region: SharedRegion, _ slot: Int) {
        let isIndirect = request.operation == .indirect
        let isPlain = !isIndirect && request.operation != .discard
        let second = isPlain ? UInt8(truncatingIfNeeded: request.segmentCount) : request.detail
        let upper = isIndirect ? request.segmentCount : request.handle
        let head = UInt32(request.operation.rawValue) | UInt32(second) << 8 | UInt32(upper) << 16
        // The aligned layout pads up to the id.
        if id == 8 { region.store(UInt64(head), at: slot) } else { region.store(head, at: slot) }
        region.store(request.id, at: slot &+ id)
        region.store(request.sector, at: slot &+ sector)
        if isPlain {
            let count = min(Int(second), BlockLimits.maximumDirectSegments)
            region.copyOut(from: &request.payload, byteCount: count * BlockSegment.size, at: slot &+ payload)
        } else if isIndirect {
            region.store(UInt32(request.handle), at: slot &+ payload)
            region.copyOut(
                from: &request.payload, byteCount: 4 * BlockLimits.maximumIndirectPages, at: slot &+ indirectReferences)
            // What is left of the 64 bytes is padding.
            let end = indirectReferences + 4 * BlockLimits.maximumIndirectPages
            if end + 4 <= indirectSize { region.store(UInt32(0), at: slot &+ end) }
            if end + 8 <= indirectSize { region.store(UInt32(0), at: slot &+ end + 4) }
        } else {
            region.store(request.payload[0], at: slot &+ payload)
        }
    }

    /// Copies the response out of the slot at byte `slot`.
    @inlinable @inline(__always)
    public func loadResponse(_ region: SharedRegion, _ slot: Int) -> BlockResponse {
        let tail: UInt32 = region.load(slot &+ 8)
        return BlockResponse(
            id: region.load(slot), operation: BlockOperationCode(rawValue: UInt8(truncatingIfNeeded: tail)),
            status: BlockStatus(rawValue: Int16(truncatingIfNeeded: tail >> 16)))
    }

    /// Stores a response into the slot at byte `slot`: every byte of the structure, so that no padding keeps what was
    /// on a stack (attacks.md A2).
    @inlinable @inline(__always)
    public func storeResponse(_ response: BlockResponse, _ region: SharedRegion, _ slot: Int) {
        region.store(response.id, at: slot)
        let tail =
            UInt32(response.operation.rawValue) | UInt32(UInt16(truncatingIfNeeded: response.status.rawValue)) << 16
        if responseSize == 16 {
            region.store(UInt64(tail), at: slot &+ 8)
        } else {
            region.store(tail, at: slot &+ 8)
        }
    }
}
