// An interface's requests, spoilt on purpose: pages that nobody granted.

import DeviceFaults
import NetworkProtocol
import RingFaults
import SharedMemory

extension SlotForm {
    /// Requests on the transmit ring, where extra information lies between them, but never first.
    static let transmitRequests = SlotForm(isEverySlot: false, id: { UInt64(TransmitSlot(loading: $0, $1).request.id) }) {
        kind, _, _ in
        kind == .corruptGrant
    } spoil: { _, region, offset, random in
        spoilReference(region, offset, random)
    }

    /// Pages on the receive ring.
    static let receiveRequests = SlotForm(id: { UInt64(ReceiveRequest(loading: $0, $1).id) }) { kind, _, _ in
        kind == .corruptGrant
    } spoil: { _, region, offset, random in
        spoilReference(region, offset + 4, random)
    }

    /// No table of grants reaches so far.
    private static func spoilReference(_ region: SharedRegion, _ offset: Int, _ random: UInt64) {
        region.store(UInt32(truncatingIfNeeded: random) | 0xC000_0000, at: offset)
    }
}
