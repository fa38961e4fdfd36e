// A request's way back: the disk's word, the answer, and all that it held given up.

import DMA
import HostDevices
import XenWire

extension QueueCore {
    /// The disk ended one stage of a request.
    mutating func ended(_ slot: Int32, _ result: DeviceResult) {
        switch result {
        case .done: advance(slot)
        case .failed(let error):
            if error.isUnsupported { withdrawFeature(slot) }
            statistics.failed &+= 1
            finish(slot, error.isUnsupported ? .unsupported : .error)
        }
    }

    mutating func withdrawFeature(_ slot: Int32) {
        if case .discard = pending[Int(slot)].work {
            validator.discard = .none
            lostDiscard = true
        } else {
            validator.offersFlush = false
            validator.offersBarrier = false
            lostFlush = true
        }
    }

    /// Answers a request and frees what it held.
    mutating func finish(_ slot: Int32, _ status: BlockStatus) {
        let request = pending[Int(slot)]
        releasePages(slot)
        pending[Int(slot)].stage = .free
        freeSlots.append(slot)
        inWork -= 1
        hasFreed = true
        ring.push(BlockResponse(id: request.id, operation: request.operation, status: status), ticket: request.ticket)
        if barrier == slot {
            barrier = -1
        } else if barrier >= 0, inWork == 1, pending[Int(barrier)].stage == .draining {
            advance(barrier)
        }
    }

    mutating func releasePages(_ slot: Int32) {
        unmapSegments(slot)
        let base = Int(slot) * stride
        for index in base..<base + Int(pending[Int(slot)].pageCount) where holders[index] >= 0 {
            grants.release(holders[index])
            holders[index] = -1
        }
        if !transient[Int(slot)].isEmpty {
            unmapping.append(contentsOf: transient[Int(slot)])
            transient[Int(slot)].removeAll(keepingCapacity: true)
        }
    }
}
