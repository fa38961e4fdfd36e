// An interface's answers, spoilt on purpose: ids that no frontend has on its rings.

import DeviceFaults
import NetworkProtocol
import RingFaults
import SharedMemory

extension SlotForm {
    /// Answers on the transmit ring. Those of extra information carry no id.
    static let transmitAnswers = SlotForm(id: { UInt64(TransmitResponse(loading: $0, $1).id) }) { kind, region, offset in
        kind == .corruptID && TransmitResponse(loading: region, offset).status != .null
    } spoil: { _, region, offset, random in
        spoilID(region, offset, random)
    }

    /// Answers on the receive ring, where extra information lies between them, but never first.
    static let receiveAnswers = SlotForm(isEverySlot: false, id: { UInt64(ReceiveSlot(loading: $0, $1).response.id) }) {
        kind, _, _ in
        kind == .corruptID
    } spoil: { _, region, offset, random in
        spoilID(region, offset, random)
    }

    /// Both begin with it.
    private static func spoilID(_ region: SharedRegion, _ offset: Int, _ random: UInt64) {
        let id: UInt16 = region.load(offset)
        region.store(id ^ (UInt16(truncatingIfNeeded: random) | 0x8000), at: offset)
    }
}
