// What the disk is given of a request's pages: mapped for it, and taken back.

import BlockModel
import BlockProtocol
import DMA

extension XenBlockTransport {
    mutating func reach(_ slot: RequestSlot, _ direction: DMADirection, into segments: inout [BusSegment]) -> Bool {
        let base = slot.offset * stride
        do throws(DMAError) {
            let handle = try dma.map(count: requests[slot].pageCount, direction, into: &segments) { index in
                let page = pages[base + index]
                return PagePiece(pfn: page.place, offset: UInt32(page.offset), byteCount: UInt32(page.byteCount))
            }
            requests[slot].mapping = .init(handle: handle, direction: direction)
            return true
        } catch {
            unmappable &+= 1
            remark("a transfer cannot be mapped: \(error)")
            return false
        }
    }

    /// Gives up all that a request held.
    mutating func release(_ slot: RequestSlot) {
        unmap(slot)
        let base = slot.offset * stride
        for index in base..<base + requests[slot].pageCount {
            if pages[index].holder >= 0 { grants.release(pages[index].holder) }
        }
        if requests[slot].transient.isEmpty { return }
        for grant in requests[slot].transient { grants.end(grant) }
        requests[slot].transient.removeAll(keepingCapacity: true)
    }

    /// Takes the pages away from the disk again; what it has read is in them afterwards, also where it went through a
    /// bounce.
    private mutating func unmap(_ slot: RequestSlot) {
        guard let mapping = requests[slot].mapping.take() else { return }
        // Fails only for a mapping that is not ours, which our own bookkeeping rules out: worth a line whenever it
        // happens.
        do throws(DMAError) { try dma.unmap(mapping.handle, mapping.direction) } catch {
            unmapFailures &+= 1
            remark("a mapping of slot \(slot.offset) cannot be ended: \(error)")
        }
    }

    /// Keeps the first of a turn's troubles for the log.
    private mutating func remark(_ text: String) { if trouble == nil { trouble = text } }
}
