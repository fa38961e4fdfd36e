// From a request of the ring to the disk's terms: validated, answered if it makes no sense, its pages looked up.

import BlockDevices
import BlockModel
import BlockProtocol
import Hypervisor

extension XenBlockTransport {
    /// Validates `incoming`, which then stands in `slot`, or is refused and answered.
    mutating func take(_ ticket: Int32, in slot: RequestSlot, _ inFlight: Int) -> TakenRequest {
        do throws(BlockRejection) {
            switch try validator.validate(&incoming, into: &ranges) {
            case .transfer(let transfer): return take(transfer, ticket, in: slot)
            case .indirect(let indirect): return take(try readDescriptors(indirect, inFlight), ticket, in: slot)
            case .flush(let ordering):
                note(ticket, in: slot, pages: 0)
                if let trace { trace.took(incoming, in: slot, sectors: 0, segments: []) }
                return .ready(BlockWork(.flush, ordering: ordering == .drainAndFlush ? .barrier : .none))
            case .discard(let discard):
                note(ticket, in: slot, pages: 0)
                if let trace { trace.took(incoming, in: slot, sectors: discard.sectorCount, segments: []) }
                return .ready(BlockWork(discard))
            }
        } catch {
            if case .noRoom = error {
                held = (incoming, ticket)
                return .none
            }
            if let trace { trace.refused(incoming, error, segments: incoming.operation == .indirect ? indirectSegments : []) }
            ring.push(BlockResponse(to: incoming, status: error.status), ticket: ticket)
            return .refused
        }
    }

    private mutating func take(_ transfer: BlockTransfer, _ ticket: Int32, in slot: RequestSlot) -> TakenRequest {
        note(ticket, in: slot, pages: ranges.count)
        if let trace { trace.took(incoming, in: slot, sectors: UInt64(transfer.sectorCount), segments: indirectSegments) }
        let work = BlockWork(transfer, writesDurably: writesDurably)
        return find(slot, isRead: transfer.direction == .read) ? .ready(work) : .waiting(work)
    }

    private mutating func note(_ ticket: Int32, in slot: RequestSlot, pages count: Int) {
        requests[slot].begin(incoming.id, incoming.responseOperation, ticket, pages: count)
    }

    /// Looks up the pages of a request whose ranges are in `ranges`; false: some have to be mapped, and it waits for
    /// that.
    private mutating func find(_ slot: RequestSlot, isRead: Bool) -> Bool {
        let base = slot.offset * stride
        let before = wanted.count
        for index in ranges.indices {
            let range = ranges[index]
            var page = RequestPage(range)
            if let holder = grants.acquire(range.reference) {
                page.holder = holder
                page.place = grants.place(holder)
            } else {
                wanted.append(WantedPage(slot: slot, index: base + index, reference: range.reference, isRead: isRead))
            }
            pages[base + index] = page
        }
        guard wanted.count > before else { return true }
        waiting.append(WaitingRequest(slot: slot, pageCount: wanted.count - before))
        return false
    }
}

extension BlockWork {
    /// A transfer in the disk's terms.
    /// - Parameter writesDurably: whether the disk can make what a barrier writes durable with the write.
    init(_ transfer: BlockTransfer, writesDurably: Bool) {
        let offset = UInt64(transfer.byteOffset)
        let ordering: WorkOrdering =
            switch transfer.ordering {
            case .none: .none
            case .flush: .flushFirst
            case .drainAndFlush: .barrier
            }
        self.init(
            transfer.direction == .read
                ? .read(offset: offset) : .write(offset: offset, isDurable: writesDurably && ordering == .barrier),
            ordering: ordering, byteCount: UInt64(transfer.byteCount))
    }

    /// A discard in the disk's terms.
    init(_ discard: BlockDiscard) {
        self.init(.discard(offset: discard.sector << 9, byteCount: discard.sectorCount << 9, secure: discard.isSecure))
    }
}
