// Frames straight into the frontend's mapped pages.

import DMA
import NetworkProtocol

extension GuestReceive {
    /// Whether the largest frame would fit mapped pages as they come.
    var canReceiveDirectly: Bool {
        let wanted = dataSlots + extraSlots
        // A frame's bytes may turn out to be another queue's.
        guard postedCount >= wanted, !(interface.scaling.isActive && interface.queueCount > 1) else { return false }
        if postedUnmapped == 0 { return true }
        for index in 0..<wanted where postedPage(index).page == nil { return false }
        return true
    }

    /// Lets the device write into mapped pages; true if it had a frame. The device says only afterwards what it was, so
    /// places of extra slots are left free behind the first page, and what lies behind them is moved up if there are
    /// fewer.
    mutating func receiveDirectly() -> Bool {
        let reserved = extraSlots
        pieces.removeAll(keepingCapacity: true)
        for place in 0..<dataSlots {
            guard let page = postedPage(place == 0 ? 0 : place + reserved).page else { return false }
            pieces.append(PagePiece(pfn: page, offset: 0, byteCount: UInt32(Self.page)))
        }
        guard let (count, offload) = receive() else { return false }
        guard let frame = describe(count, offload, slot: -1) else { return true }
        let plan = frame.plan
        // At most one page moves for an MTU of 9000; large frames are segmented ones and lie right.
        if plan.dataSlots > 1, plan.extraSlots < reserved { moveUp(plan, by: reserved - plan.extraSlots, count) }
        answer(frame)
        statistics.mappedFrames &+= 1
        return true
    }

    func moveUp(_ plan: ReceivePlan, by shift: Int, _ byteCount: Int) {
        for page in 1..<plan.dataSlots {
            let to = page + plan.extraSlots
            guard let source = postedPage(to + shift).page, let target = postedPage(to).page else { return }
            let count = min(Self.page, byteCount - page * Self.page)
            _ = dma.copy(PagePiece(pfn: source, offset: 0, byteCount: UInt32(count)), to: target)
        }
    }
}
