// What a mock vif backend takes and gives.

import Hypervisor
import NetworkProtocol
import SharedMemory
import SharedRing
import XenTypes

extension MockNetworkBackend {
    /// Waits for posted pages and answers each with the slot that is made of it; then publishes and rings.
    public func give(_ slots: [(ReceiveRequest) -> ReceiveSlot]) throws {
        for slot in slots { receive.push(slot(try posted())) }
        _ = receive.publish()
        ring()
    }

    /// The next page that the frontend posted, waited for.
    /// - Throws: `MockPeerError` if it posts none in time; `RingError` if its producer index cannot be.
    public func posted() throws -> ReceiveRequest {
        let request: ReceiveRequest? = try poll(patience.answer, every: 2000) { try receive.nextRequest() }
        guard let request else { throw MockPeerError("no page is posted") }
        return request
    }

    /// The next slot that the frontend sent; nil if there is none in time.
    public func sent(milliseconds: Int64? = nil) throws -> TransmitSlot? {
        try poll(milliseconds ?? patience.answer, every: 2000) { try transmit.nextRequest() }
    }

    /// Answers a sent slot, or one that never was; publishes and rings.
    public func answer(_ id: UInt16, _ status: NetworkStatus = .okay) {
        transmit.push(TransmitResponse(id: id, status: status))
        _ = transmit.publish()
        ring()
    }

    /// Fills the page that the frontend posted next, by copy, and answers it; rings, if it does.
    public func frame(_ bytes: [UInt8], flags: ReceiveFlags = [], rings: Bool = true) throws {
        let request = try posted()
        try fill(request.reference, bytes)
        receive.push(ReceiveSlot(ReceiveResponse(id: request.id, flags: flags, status: Int16(bytes.count))))
        _ = receive.publish()
        if rings { ring() }
    }

    /// Copies `bytes`, at most a page, to the beginning of a page of the frontend's.
    /// - Throws: `MockPeerError` if the grant does not allow it.
    public func fill(_ reference: GrantReference, _ bytes: [UInt8]) throws {
        let page = try SharedRegion(anonymous: 4096)
        page.write(bytes, at: 0)
        let copy = GrantCopy(
            source: .local(page, offset: 0), destination: .grant(reference, of: paths.frontend, offset: 0), byteCount: bytes.count)
        let status = try hypervisor.copyGrants([copy])
        guard status == [.okay] else { throw MockPeerError("a copy to grant \(reference): \(status)") }
    }
}
