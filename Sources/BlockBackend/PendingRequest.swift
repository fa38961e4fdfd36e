// A request between its validation and its response. It lives in a slot of its queue; the slot's number is the device's tag.

import XenWire

/// What is left to do for a request.
enum PendingStage: UInt8 {
    /// The slot is free.
    case free
    /// Its data pages are being mapped.
    case mapping
    /// A barrier that waits until everything before it has ended.
    case draining
    /// A flush that comes before the data.
    case flushBefore
    /// The data, the discard or the flush itself.
    case main
    /// The flush that makes a barrier's own data durable.
    case flushAfter
}

/// One request in work.
struct PendingRequest {
    /// The frontend's number and the operation that the response carries.
    var id: UInt64 = 0
    var operation: BlockOperationCode = .read
    /// Its entry in the ring's journal.
    var ticket = JournaledRing.noTicket
    var stage: PendingStage = .free
    var work: Work = .flush
    /// Pages in the queue's per-request storage.
    var pageCount: Int32 = 0

    /// What the main stage does.
    enum Work {
        case transfer(BlockTransfer)
        case flush
        case discard(BlockDiscard)
    }

    /// Whether it orders the whole disk.
    var isBarrier: Bool { operation == .barrier }
}
