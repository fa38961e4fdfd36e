// A disk's requests, spoilt on purpose.

import BlockProtocol
import RingFaults

extension SlotForm {
    /// Requests of this layout.
    static func requests(_ layout: BlockLayout) -> SlotForm {
        SlotForm(id: { layout.loadRequest($0, $1).id }) { kind, region, offset in
            guard kind == .corruptGrant else { return false }
            let request = layout.loadRequest(region, offset)
            switch request.operation {
            case .indirect: return true
            case .read, .write: return request.segmentCount > 0
            default: return false
            }
        } spoil: { _, region, offset, random in
            let isIndirect = layout.loadRequest(region, offset).operation == .indirect
            // The first of them; no table of grants reaches so far.
            let place = offset + (isIndirect ? layout.indirectReferences : layout.payload)
            region.store(UInt32(truncatingIfNeeded: random) | 0xC000_0000, at: place)
        }
    }
}
