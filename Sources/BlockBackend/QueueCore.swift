// A backend queue's data path: takes requests, maps their pages, hands bus segments to the disk, answers. Owned by one reactor thread;
// nothing here is locked. A struct with one owner, because the owner's class pays for access once a turn, not once a field.

import DMA
import HostDevices
import Hypervisor
import SharedRing
import XenWire

/// One queue's rings, grants and requests in work.
struct QueueCore: ~Copyable {
    var ring: JournaledRing
    var validator: BlockRequestValidator
    var grants: PersistentGrants
    let usesPersistentGrants: Bool
    let frontend: DomainID
    /// Not generic: it is called to map and unmap, a system call away at least, never for a request whose grants are mapped.
    let hypervisor: any Hypervisor
    /// The only way to the frontend's pages.
    let dma: DMADevice
    /// Whether it is the direct map, whose segments are made here.
    let isDirect: Bool
    let disk: any BlockDeviceQueue

    /// Requests in work by slot; the slot is the device's tag.
    var pending: [PendingRequest]
    var freeSlots: [Int32]
    /// Per-request storage, `stride` places each: the part of each page that is meant, the page's place in our frame map, and who
    /// holds the mapping (a slot of `grants`, or -1: `transient`).
    let stride: Int
    var ranges: [SegmentRange?]
    var pages: [Pfn]
    /// What is mapped for the device, by slot.
    var mappings: [Mapping?]
    var holders: [Int32]
    /// Mappings made for one request only.
    var transient: [[MappedGrant]]

    /// Pages that this turn's requests need and that are not mapped.
    var wanted: [Wanted] = []
    /// Requests of this turn that wait for them.
    var waiting: [Int32] = []
    /// Mappings to give back before this turn's responses are shown.
    var unmapping: [MappedGrant] = []
    var pieces: [PagePiece] = []
    var segments: [BusSegment] = []
    var indirectSegments: [BlockSegment] = []
    var validRanges: [SegmentRange] = []

    /// A barrier in work: nothing behind it starts.
    var barrier: Int32 = -1
    /// Requests in work, those that wait included.
    var inWork = 0
    var isClosing = false
    var fault: String?
    /// What went wrong with memory, to be logged: the first since the log was last told.
    var trouble: String?
    /// The limit that kept a request's grants from being mapped.
    var shortage: String?
    /// What the last refusal to map said of a limit.
    var lackOfRoom: String?
    /// Whether the last refusal to map may have been for want of room.
    var mayLackRoom = false
    /// Requests that wait until others have given up their grants, and the pages that they want.
    var deferred: [Int32] = []
    var deferredPages: [Wanted] = []
    /// A request, taken and not begun, whose descriptors could not be mapped for want of room.
    var held: (request: BlockRequest, ticket: Int32)?
    /// Whether anything was given up since the last attempt.
    var hasFreed = false
    /// Features that the disk refused: to be withdrawn in the store.
    var lostFlush = false
    var lostDiscard = false
    var statistics = BackendQueueStatistics()

    /// A page that has to be mapped: for which request, and which of its pages.
    struct Wanted {
        var slot: Int32
        var page: Int32
        var reference: GrantReference
    }

    /// A request's data as the device has it.
    struct Mapping {
        var handle: DMAHandle
        var direction: DMADirection
    }

    init(
        ring: consuming JournaledRing, validator: BlockRequestValidator, persistentGrants: Int?,
        frontend: DomainID, hypervisor: any Hypervisor, dma: DMADevice, disk: any BlockDeviceQueue
    ) {
        let slots = Int(ring.geometry.slotCount)
        self.ring = ring
        self.validator = validator
        grants = PersistentGrants(limit: persistentGrants ?? 0)
        usesPersistentGrants = persistentGrants != nil
        self.frontend = frontend
        self.hypervisor = hypervisor
        self.dma = dma
        isDirect = dma.isDirect
        self.disk = disk
        pending = Array(repeating: PendingRequest(), count: slots)
        freeSlots = (0..<Int32(slots)).reversed()
        stride = max(BlockProtocol.maximumDirectSegments, validator.maximumIndirectSegments)
        ranges = Array(repeating: nil, count: slots * stride)
        pages = Array(repeating: Pfn(rawValue: 0), count: slots * stride)
        mappings = Array(repeating: nil, count: slots)
        holders = Array(repeating: -1, count: slots * stride)
        transient = Array(repeating: [], count: slots)
        segments.reserveCapacity(stride)
        pieces.reserveCapacity(stride)
    }

    /// Whether a request may be taken now.
    var isOpen: Bool { !isClosing && fault == nil && barrier < 0 }

    /// Whether requests wait for room: nothing new is taken meanwhile.
    var isStalled: Bool { held != nil || !deferred.isEmpty }

    /// Whether there is something for `takeRequests`. One load at most.
    mutating func hasWork() -> Bool { isStalled ? hasFreed : isOpen && ring.hasRequests() }

    private mutating func next(_ request: inout BlockRequest, _ ticket: inout Int32) throws(RingError) -> Bool {
        guard let again = held else { return try ring.nextRequest(into: &request, ticket: &ticket) }
        held = nil
        (request, ticket) = again
        return true
    }

    /// Takes what the frontend asks for and starts it; true if there was anything. Answers are shown by `publish`.
    mutating func takeRequests() -> (taken: Int, rejected: Int) {
        var taken = 0
        var rejected = 0
        var request = BlockRequest()
        var ticket = JournaledRing.noTicket
        do throws(RingError) {
            // One turn takes at most a ring's worth, so that one busy frontend leaves room for the others on this thread (A33).
            hasFreed = false
            // Those that wait for room come first, and nothing behind them.
            while isOpen, deferred.isEmpty, taken < pending.count, let slot = freeSlots.last, try next(&request, &ticket) {
                taken += 1
                if !start(&request, ticket, in: slot) { rejected += 1 }
                if held != nil { break }
            }
        } catch {
            fault = "\(error)"
        }
        if !waiting.isEmpty || !deferred.isEmpty { mapAndStart() }
        statistics.requests &+= UInt64(taken)
        statistics.rejected &+= UInt64(rejected)
        return (taken, rejected)
    }

    /// Shows the frontend what was answered; true if it must be notified. What was mapped for these requests is given back first: as
    /// soon as a frontend sees the response it may use the page for something else (item 7).
    mutating func publish() -> Bool {
        if !unmapping.isEmpty {
            // Each was used by requests that have ended, and by no others: nothing that is in flight keeps it.
            for grant in unmapping { dma.detachIdle(grant.region) }
            hypervisor.unmapGrants(unmapping)
            unmapping.removeAll(keepingCapacity: true)
        }
        let notify = ring.publish()
        if notify { statistics.notificationsSent &+= 1 }
        return notify
    }

    // MARK: Starting

    /// Validates a request and starts it; false if it was refused (and answered).
    private mutating func start(_ request: inout BlockRequest, _ ticket: Int32, in slot: Int32) -> Bool {
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
    private mutating func occupy(_ slot: Int32, _ request: BlockRequest, _ transfer: BlockTransfer) {
        occupy(slot, request, .transfer(transfer), pages: validRanges.count)
        let base = Int(slot) * stride
        for index in validRanges.indices { ranges[base + index] = validRanges[index] }
        findPages(slot)
    }

    private mutating func occupy(_ slot: Int32, _ request: BlockRequest, _ work: PendingRequest.Work, pages: Int) {
        _ = freeSlots.popLast()
        inWork += 1
        pending[Int(slot)] = PendingRequest(
            id: request.id, operation: request.responseOperation, ticket: pending[Int(slot)].ticket, stage: .mapping, work: work,
            pageCount: Int32(pages))
        if request.operation == .barrier { barrier = slot }
    }

    /// Looks a request's pages up; starts it if all are mapped, else it waits for the turn's mapping.
    private mutating func findPages(_ slot: Int32) {
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

    private mutating func submitMain(_ slot: Int32) {
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

    /// Maps a request's pages for the disk; its segments are in `segments`. False: the disk cannot have them.
    private mutating func mapSegments(_ slot: Int32, _ direction: DMADirection) -> Bool {
        segments.removeAll(keepingCapacity: true)
        let base = Int(slot) * stride
        if isDirect {
            var bytes: UInt64 = 0
            for index in base..<base + Int(pending[Int(slot)].pageCount) {
                guard let range = ranges[index] else { continue }
                segments.appendDirect(pages[index], offset: Int(range.byteOffset), byteCount: Int(range.byteCount))
                bytes &+= UInt64(range.byteCount)
            }
            mappings[Int(slot)] = Mapping(handle: dma.recordDirect(direction, byteCount: bytes), direction: direction)
            return true
        }
        pieces.removeAll(keepingCapacity: true)
        for index in base..<base + Int(pending[Int(slot)].pageCount) {
            guard let range = ranges[index] else { continue }
            pieces.append(
                PagePiece(pfn: pages[index], offset: UInt32(range.byteOffset), byteCount: UInt32(range.byteCount)))
        }
        // Taken out for the call: a span of one field and another field at once would be two accesses to this struct.
        var mapped: [BusSegment] = []
        swap(&mapped, &segments)
        defer { swap(&mapped, &segments) }
        do throws(DMAError) {
            let handle = try dma.map(pieces.span, direction, into: &mapped)
            mappings[Int(slot)] = Mapping(handle: handle, direction: direction)
            return true
        } catch {
            statistics.memory.unmappable &+= 1
            note("a transfer cannot be mapped: \(error)")
            return false
        }
    }

    /// Takes the pages away from the disk again; what it has read is in them afterwards, also where it went through a bounce.
    private mutating func unmapSegments(_ slot: Int32) {
        guard let mapping = mappings[Int(slot)] else { return }
        mappings[Int(slot)] = nil
        // Fails only for a mapping that is not ours, which our own bookkeeping rules out: worth a line whenever it happens.
        do throws(DMAError) { try dma.unmap(mapping.handle, mapping.direction) } catch {
            statistics.memory.unmapFailures &+= 1
            note("a mapping of slot \(slot) cannot be ended: \(error)")
        }
    }

    /// Keeps the first of a turn's troubles for the log.
    mutating func note(_ text: String) { if trouble == nil { trouble = text } }

    private mutating func submit(_ operation: DeviceOperation, _ slot: Int32) {
        if case .flush = operation {
            statistics.flushes &+= 1
            segments.removeAll(keepingCapacity: true)
        } else if case .discard = operation {
            segments.removeAll(keepingCapacity: true)
        }
        if let result = disk.submit(operation, tag: UInt32(slot), segments: segments.span) { ended(slot, result) }
    }

    // MARK: Ending

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

    private mutating func withdrawFeature(_ slot: Int32) {
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

    private mutating func releasePages(_ slot: Int32) {
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
