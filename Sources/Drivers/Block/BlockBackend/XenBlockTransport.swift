// Xen's way to a disk: requests from a ring, data in granted pages, answers with their entries in a journal. The disk's
// own rules are the model's; here is what only Xen has. Owned by the queue's thread.

import BlockModel
import BlockProtocol
import DMA
import Hypervisor
import SharedRing
import XenTypes

/// One ring with the grants that its requests name.
struct XenBlockTransport: BlockTransport, ~Copyable {
    typealias Fault = RingError

    var ring: JournaledRing
    var validator: BlockRequestValidator
    let writesDurably: Bool
    var grants: GrantMapper
    /// The only way to the frontend's pages.
    let dma: DMADevice

    /// Requests in work.
    var requests: SlotMap<XenRequest>
    /// Their pages, `stride` places for each slot.
    var pages: [RequestPage]
    let stride: Int

    /// Pages that this turn's requests need and that are not mapped.
    var wanted: [WantedPage] = []
    /// Requests that wait for them, with how many each wants.
    var waiting: [WaitingRequest] = []
    /// How far `nextWaiting` has come; nil: it has not begun.
    var progress: MappingProgress?
    /// A request, taken and not begun, whose descriptors could not be mapped for want of room.
    var held: (request: BlockRequest, ticket: Int32)?
    /// Whether those that wait had their try, and there was no room for them.
    var isDeferring = false

    /// The request that is being taken: kept, because making room for one costs as much as reading it.
    var incoming = BlockRequest()
    var indirectSegments: [BlockSegment] = []
    var ranges: [SegmentRange] = []
    /// nil while nobody traces.
    var trace: BlockQueueTrace?
    /// What is left of the memory's troubles, to be logged: the first since the log was last told.
    var trouble: String?
    var unmappable: UInt64 = 0
    var unmapFailures: UInt64 = 0
    var notificationsSent: UInt64 = 0

    init(_ plan: consuming XenBlockPlan) {
        let slots = Int(plan.ring.geometry.slotCount)
        stride = max(BlockLimits.maximumDirectSegments, plan.validator.maximumIndirectSegments)
        validator = plan.validator
        writesDurably = plan.writesDurably
        grants = GrantMapper(
            hypervisor: plan.hypervisor, frontend: plan.frontend, dma: plan.dma, persistentLimit: plan.persistentGrants)
        dma = plan.dma
        requests = SlotMap(repeating: XenRequest(), capacity: slots)
        pages = Array(repeating: RequestPage(), count: slots * stride)
        ring = plan.ring
    }

    var isStalled: Bool { held != nil || isDeferring }

    mutating func hasRequests() -> Bool { ring.hasRequests() }

    mutating func next(in slot: RequestSlot, inFlight: Int) throws(RingError) -> TakenRequest {
        // Those that wait for room come first, and nothing behind them.
        if isDeferring { return .none }
        var ticket = JournaledRing.noTicket
        if let again = held.take() {
            (incoming, ticket) = again
        } else if try !ring.nextRequest(into: &incoming, ticket: &ticket) {
            return .none
        }
        return take(ticket, in: slot, inFlight)
    }

    mutating func withdraw(_ operations: OptionalOperations) {
        if operations.contains(.discard) { validator.discard = .none }
        if operations.contains(.flush) {
            validator.offersFlush = false
            validator.offersBarrier = false
        }
    }

    mutating func answer(_ request: consuming EndedRequest, _ outcome: WorkOutcome) {
        let slot = request.slot
        release(slot)
        if let trace { trace.answered(slot, id: requests[slot].id, requests[slot].operation, BlockStatus(outcome)) }
        let response = BlockResponse(
            id: requests[slot].id, operation: requests[slot].operation, status: BlockStatus(outcome))
        ring.push(response, ticket: requests[slot].ticket)
        request.answered()
    }

    /// What was mapped for answered requests is given back first: as soon as a frontend sees the response it may use
    /// the page for something else (protocol-rules.md 7).
    mutating func publish() -> Bool {
        grants.unmapEnded()
        let notify = ring.publish()
        if notify { notificationsSent &+= 1 }
        return notify
    }
}

/// What a transport is made of.
struct XenBlockPlan: ~Copyable {
    var ring: JournaledRing
    let validator: BlockRequestValidator
    /// Whether the disk can make a write durable without a flush.
    let writesDurably: Bool
    /// The most grants that stay mapped; nil: none does.
    let persistentGrants: Int?
    let frontend: DomainID
    let hypervisor: any Hypervisor
    let dma: DMADevice
}

/// What is kept of a request until its answer.
struct XenRequest {
    /// The frontend's number and the operation that the response carries.
    var id: UInt64 = 0
    var operation: BlockOperationCode = .read
    /// Its entry in the ring's journal.
    var ticket = JournaledRing.noTicket
    /// Pages in the transport's per-request storage.
    var pageCount = 0
    /// What is mapped for the disk.
    var mapping: DataMapping?
    /// Mappings made for this request only.
    var transient: [MappedGrant] = []

    /// Another request stands here now; nothing is mapped for it yet.
    @inline(__always)
    mutating func begin(_ id: UInt64, _ operation: BlockOperationCode, _ ticket: Int32, pages: Int) {
        self.id = id
        self.operation = operation
        self.ticket = ticket
        pageCount = pages
    }

    /// A request's data as the disk has it.
    struct DataMapping {
        var handle: DMAHandle
        var direction: DMADirection
    }
}

/// One page of a request: its place in our frame map, the part of it that is meant, and who holds its mapping.
struct RequestPage {
    var place = Pfn(rawValue: .max)
    var offset: UInt16 = 0
    var byteCount: UInt16 = 0
    /// A slot of the persistent grants; negative: the request itself.
    var holder: Int32 = -1

    init() {}

    /// A part that is not mapped yet.
    @inline(__always)
    init(_ range: SegmentRange) {
        offset = UInt16(truncatingIfNeeded: range.byteOffset)
        byteCount = UInt16(truncatingIfNeeded: range.byteCount)
    }
}

extension BlockStatus {
    /// As the ring says it.
    init(_ outcome: WorkOutcome) {
        switch outcome {
        case .done: self = .okay
        case .failed: self = .error
        case .unsupported: self = .unsupported
        }
    }
}
