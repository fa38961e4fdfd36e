// A disk's answers, spoilt on purpose.

import BlockProtocol
import DeviceFaults
import RingFaults

extension SlotForm {
    /// Answers of this layout.
    static func answers(_ layout: BlockLayout) -> SlotForm {
        SlotForm(id: { layout.loadResponse($0, $1).id }) { kind, _, _ in
            kind == .corruptID || kind == .corruptStatus
        } spoil: { kind, region, offset, random in
            var response = layout.loadResponse(region, offset)
            if kind == .corruptID {
                // Far from all that a frontend counts by.
                response.id ^= random | 1 << 63
            } else {
                // What there is goes from -2 to 0.
                response.status = BlockStatus(rawValue: Int16(truncatingIfNeeded: random >> 48 & 0x3FFF) + 1)
            }
            layout.storeResponse(response, region, offset)
        }
    }
}
