// A queue's data path on the frontend's side: synchronous submit and reap, owned by one thread at a time. It knows
// rings and pages; it does not know how a connection comes about.
//
// An operation is what a caller asked for; a request is what goes over the ring. An operation larger than a request
// becomes several, and when the backend goes away every operation that has not ended is asked again from its start on
// the next ring: callers see a pause, not an error. Repeating is harmless, for nobody was told that it had ended.

import BlockProtocol
import DeviceFaults
import Hypervisor
import LinuxSystem
import RingFaults
import SharedMemory
import SharedRing
import XenTypes

/// What a queue is made from, once, by whoever takes it.
struct QueueBlueprint {
    let mailbox: QueueMailbox
    /// The data buffer.
    let pages: any OfferedPages
    /// Pages of indirect descriptors: `indirectPagesEach` for each request id.
    let indirect: any OfferedPages
    let indirectPagesEach: Int
    /// One for each slot of the largest ring that it might be given.
    let requestIDs: Int
}

/// One queue of a block frontend.
public struct BlockQueue: ~Copyable {
    /// The data buffer, shared with the backend: fill it before a write, look at it after a read.
    public let buffer: SharedRegion
    /// Operations that can be in flight.
    public let depth: Int

    /// The disk as of the last connection; its size follows online resizes.
    public internal(set) var properties: BlockProperties
    /// Why the queue is of no more use.
    public internal(set) var failure: BlockFrontendError?
    /// The backend takes fewer queues, and this one is left over: `submit` refuses until a backend takes it again.
    public internal(set) var isDisplaced = false
    /// Requests pushed, notifications sent, and how often operations had to be asked again.
    public internal(set) var statistics = BlockQueueStatistics()

    let mailbox: QueueMailbox
    let time: any TimeSource
    /// How often news was taken: who sleeps on this queue's behalf meanwhile must look again.
    var newsTaken: UInt32 = 0
    let pages: any OfferedPages
    let references: [GrantReference]
    /// Pages of indirect descriptors: `indirectPagesEach` for each request id.
    let indirect: any OfferedPages
    let indirectPagesEach: Int

    var connection: QueueConnection?
    var ring: FrontRing<BlockRing>
    /// What goes wrong on purpose, in slots of this form; nil: nothing.
    var faults: (book: FaultBook, form: SlotForm)?
    var segmentLimit = BlockLimits.maximumDirectSegments
    var checksGrants = false
    /// Whether what a read is to fill is cleared first: a backend that is not trusted may say that it has read and
    /// have written nothing, and the pages hold what another caller read or wrote (attacks.md C15).
    var clearsPages = false

    var operations: [Operation]
    var freeOperations: [Int32]
    var requests: [OutstandingRequest]
    var freeRequests: [Int32]
    /// Operations of which something has yet to be pushed, oldest first.
    var backlog: IndexQueue
    var sequence: UInt64 = 0
    /// Ended operations that `reap` has not handed out.
    var ended: [BlockCompletion] = []
    var scratch: [BlockSegment] = []

    /// One operation of a caller.
    struct Operation {
        var command: BlockCommand
        var sector: UInt64
        var bufferOffset: Int
        var byteCount: Int
        var tag: UInt64
        /// Order of submission, which asking again keeps.
        var sequence: UInt64
        /// Bytes that requests have been pushed for.
        var asked: Int
        /// Requests in flight; -1: the slot is free.
        var outstanding: Int32
        var outcome: BlockOutcome
        var isFullyAsked: Bool
    }

    /// One request on the ring.
    struct OutstandingRequest {
        /// -1: the id is free.
        var operation: Int32
        var code: BlockOperationCode
        var bufferOffset: Int
        var byteCount: Int
    }

    init(
        _ blueprint: QueueBlueprint, depth: Int, properties: BlockProperties, time: any TimeSource
    ) throws(Errno) {
        mailbox = blueprint.mailbox
        self.time = time
        pages = blueprint.pages
        references = pages.references
        buffer = pages.region
        indirect = blueprint.indirect
        indirectPagesEach = blueprint.indirectPagesEach
        self.depth = depth
        self.properties = properties
        // Until a backend connects there is a ring that nobody reads, so that no step has to ask whether there is one.
        ring = FrontRing(initialising: try SharedRegion(anonymous: SharedRegion.pageSize), BlockRing(.native))
        operations = Array(
            repeating: Operation(
                command: .flush, sector: 0, bufferOffset: 0, byteCount: 0, tag: 0, sequence: 0, asked: 0, outstanding: -1,
                outcome: .okay, isFullyAsked: true), count: depth)
        freeOperations = (0..<Int32(depth)).reversed()
        requests = Array(
            repeating: OutstandingRequest(operation: -1, code: .read, bufferOffset: 0, byteCount: 0),
            count: blueprint.requestIDs)
        freeRequests = (0..<Int32(blueprint.requestIDs)).reversed()
        backlog = IndexQueue(capacity: depth)
        ended.reserveCapacity(depth)
        scratch.reserveCapacity(BlockLimits.segmentsPerIndirectPage)
    }

    /// Operations submitted and not ended.
    public var inFlight: Int { depth - freeOperations.count }

    /// Whether `reap` has something to hand out that no doorbell will announce.
    public var hasEnded: Bool { !ended.isEmpty }

    /// Whether a backend is connected.
    public var isConnected: Bool { connection != nil }

    /// Takes an operation on. Nothing is sent before `kick()`.
    /// - Parameters:
    ///   - sector: where on the disk, in 512-byte units, aligned to the disk's sector size.
    ///   - bufferOffset: where in `buffer`, in bytes, a multiple of 512.
    ///   - byteCount: how much, a multiple of the disk's sector size; 0 for flush. Not limited by the ring's request
    ///     size.
    ///   - tag: the caller's number for it.
    /// - Returns: false if `depth` operations are in flight.
    /// - Throws: `displaced` while the backend takes fewer queues; never the first one.
    public mutating func submit(
        _ command: BlockCommand, sector: UInt64 = 0, bufferOffset: Int = 0, byteCount: Int = 0, tag: UInt64
    ) throws(BlockFrontendError) -> Bool {
        if isDisplaced, mailbox.hasNews { takeNews() }
        if let failure { throw failure }
        if isDisplaced { throw .displaced }
        try check(command, sector, bufferOffset, byteCount)
        guard let slot = freeOperations.popLast() else { return false }
        sequence &+= 1
        operations[Int(slot)] = Operation(
            command: command, sector: sector, bufferOffset: bufferOffset, byteCount: byteCount, tag: tag,
            sequence: sequence, asked: 0, outstanding: 0, outcome: .okay, isFullyAsked: false)
        backlog.append(slot)
        return true
    }

    private func check(
        _ command: BlockCommand, _ sector: UInt64, _ bufferOffset: Int, _ byteCount: Int
    ) throws(BlockFrontendError) {
        if command == .flush { return }
        let unit = Int(properties.sectorSize)
        let sectors = UInt64(clamping: byteCount) / 512
        guard byteCount > 0, byteCount & (unit - 1) == 0, sector & UInt64(unit / 512 - 1) == 0 else {
            throw .badRequest("\(byteCount) bytes at sector \(sector): not whole sectors of \(unit) bytes")
        }
        guard sectors <= properties.sectors, sector <= properties.sectors - sectors else {
            throw .badRequest("\(sectors) sectors at \(sector): the disk has \(properties.sectors) of 512 bytes")
        }
        if command == .read || command == .write {
            guard bufferOffset >= 0, bufferOffset & 511 == 0, byteCount <= buffer.byteCount,
                bufferOffset <= buffer.byteCount - byteCount
            else {
                throw .badRequest("\(byteCount) bytes at \(bufferOffset): the buffer has \(buffer.byteCount)")
            }
        }
    }
}

/// A queue's counters, since it was made.
public struct BlockQueueStatistics: Sendable, Equatable {
    /// Requests pushed onto rings.
    public var requests: UInt64 = 0
    /// Notifications sent to the backend.
    public var notifications: UInt64 = 0
    /// Connections taken into use.
    public var connections: UInt64 = 0
    /// Operations asked again on a new connection.
    public var repeated: UInt64 = 0
}

/// A fixed-capacity first-in first-out queue of slot numbers.
struct IndexQueue {
    private var slots: [Int32]
    private var head = 0
    private(set) var count = 0

    init(capacity: Int) { slots = Array(repeating: 0, count: max(1, capacity)) }

    var isEmpty: Bool { count == 0 }
    var first: Int32 { slots[head] }

    mutating func append(_ slot: Int32) {
        precondition(count < slots.count, "more operations than slots")
        var place = head + count
        if place >= slots.count { place -= slots.count }
        slots[place] = slot
        count += 1
    }

    mutating func removeFirst() {
        head += 1
        if head == slots.count { head = 0 }
        count -= 1
    }

    mutating func removeAll() {
        head = 0
        count = 0
    }
}
