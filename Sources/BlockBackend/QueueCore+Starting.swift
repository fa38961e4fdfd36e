// A request's way to the disk: validated, its pages found, its stages begun in order.

import DMA
import HostDevices
import SharedRing
import XenWire

extension QueueCore {
    /// Validates a request and starts it; false if it was refused (and answered).
    mutating func start(_ request: inout BlockRequest, _ ticket: Int32, in slot: Int32) -> Bool {
        pending[Int(slot)].ticket = ticket
        do throws(BlockRejection) {
            switch try validator.validate(&request, into: &validRanges) {
            case .transfer(let transfer): occupy(slot, request, transfer)
            case .indirect(let indirect): occupy(slot, request, try readDescriptors(indirect))
            case .flush:
                occupy(slot, request, .flush, pages: 0)
                begin(slot)
            case .discard(let discard):
                occupy(slot, request, .discard(discard), pages: 0)
                begin(slot)
            }
            return true
        } catch {
            if case .noRoom = error {
                held = (request, ticket)
                return true
            }
            ring.push(BlockResponse(to: request, status: error.status), ticket: ticket)
            return false
        }
    }

    /// A transfer whose ranges are in `validRanges`.
    mutating func occupy(_ slot: Int32, _ request: BlockRequest, _ transfer: BlockTransfer) {
        occupy(slot, request, .transfer(transfer), pages: validRanges.count)
        let base = Int(slot) * stride
        for index in validRanges.indices { ranges[base + index] = validRanges[index] }
        findPages(slot)
    }

    mutating func occupy(_ slot: Int32, _ request: BlockRequest, _ work: PendingRequest.Work, pages: Int) {
        _ = freeSlots.popLast()
        inWork += 1
        pending[Int(slot)] = PendingRequest(
            id: request.id, operation: request.responseOperation, ticket: pending[Int(slot)].ticket, stage: .mapping, work: work,
            pageCount: Int32(pages))
        if request.operation == .barrier { barrier = slot }
    }

    /// Looks a request's pages up; starts it if all are mapped, else it waits for the turn's mapping.
    mutating func findPages(_ slot: Int32) {
        let base = Int(slot) * stride
        let count = Int(pending[Int(slot)].pageCount)
        var missing = false
        for index in base..<base + count {
            guard let range = ranges[index] else { continue }
            if usesPersistentGrants, case .slot(let holder) = grants.acquire(range.reference) {
                holders[index] = holder
                pages[index] = grants.page(holder)
            } else {
                holders[index] = -1
                wanted.append(Wanted(slot: slot, page: Int32(index - base), reference: range.reference))
                missing = true
            }
        }
        if missing { waiting.append(slot) } else { begin(slot) }
    }

    /// Starts a request whose pages are all there, or that has none.
    mutating func begin(_ slot: Int32) {
        let request = pending[Int(slot)]
        if request.isBarrier {
            pending[Int(slot)].stage = .draining
            // The barrier itself is in work, too.
            if inWork == 1 { advance(slot) }
        } else if request.operation == .flush, case .transfer = request.work {
            pending[Int(slot)].stage = .flushBefore
            submit(.flush, slot)
        } else {
            submitMain(slot)
        }
    }

    /// Takes a request whose last stage has ended to the next one.
    mutating func advance(_ slot: Int32) {
        switch pending[Int(slot)].stage {
        case .draining:
            pending[Int(slot)].stage = .flushBefore
            submit(.flush, slot)
        case .flushBefore:
            if case .flush = pending[Int(slot)].work { finish(slot, .okay) } else { submitMain(slot) }
        case .main where pending[Int(slot)].isBarrier:
            pending[Int(slot)].stage = .flushAfter
            submit(.flush, slot)
        case .main, .flushAfter: finish(slot, .okay)
        case .free, .mapping: break
        }
    }

    mutating func submitMain(_ slot: Int32) {
        pending[Int(slot)].stage = .main
        switch pending[Int(slot)].work {
        case .flush: submit(.flush, slot)
        case .discard(let discard):
            statistics.discards &+= 1
            if discard.sectorCount == 0 { return finish(slot, .okay) }
            submit(
                .discard(offset: discard.sector << 9, byteCount: discard.sectorCount << 9, secure: discard.isSecure),
                slot)
        case .transfer(let transfer):
            guard mapSegments(slot, transfer.direction == .read ? .fromDevice : .toDevice) else {
                return finish(slot, .error)
            }
            let offset = UInt64(transfer.byteOffset)
            let bytes = UInt64(transfer.byteCount)
            if transfer.direction == .read {
                statistics.reads &+= 1
                statistics.readBytes &+= bytes
                submit(.read(offset: offset), slot)
            } else {
                statistics.writes &+= 1
                statistics.writtenBytes &+= bytes
                submit(.write(offset: offset), slot)
            }
        }
    }
}
