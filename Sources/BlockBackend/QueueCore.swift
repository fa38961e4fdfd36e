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
}
