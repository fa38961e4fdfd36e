// A virtqueue as a way to a disk: chains become work, statuses and used entries answer it. The disk's own rules are the
// model's; here is what only virtio has. Owned by the queue's thread.

import BlockDevices
import BlockModel
import DMA
import SharedMemory
import VirtioMemory
import VirtioRing
import VirtioWire

/// One virtqueue with the memory that its chains name.
struct VirtioBlockTransport<Ring: DeviceRing & ~Copyable>: BlockTransport, ~Copyable {
    typealias Fault = VirtqueueError

    var ring: Ring
    var rules: VirtioBlockRules
    /// Where what is written into the driver's memory is noted; nil: nowhere.
    var log: DirtyLog?
    private let identity: [UInt8]
    private let bus: MemoryBus
    private var memory: GuestWindows
    /// What the driver's addresses mean, if it has an IOMMU: chains name the driver's own memory from their taking on.
    let translated: TranslatedMemory?
    /// The driver's memory, if it comes and goes with its chains.
    let chainMemory: (any ChainMemory)?
    /// Whether chains name what is always there.
    private let isDirect: Bool
    /// The next chain waits for translations.
    private(set) var isParked = false

    /// Requests in work.
    private var requests: SlotMap<VirtioRequest>
    /// The chain that is being taken.
    private var chain = DescriptorChain()

    init(
        ring: consuming Ring, rules: VirtioBlockRules, identity: String, memory: consuming GuestWindows, bus: MemoryBus,
        translated: TranslatedMemory? = nil, chainMemory: (any ChainMemory)? = nil
    ) {
        self.translated = translated
        self.chainMemory = chainMemory
        isDirect = translated == nil && chainMemory == nil
        requests = SlotMap(repeating: VirtioRequest(), capacity: ring.size)
        self.ring = ring
        self.rules = rules
        self.identity = Array(identity.utf8.prefix(BlockRequestKind.identityBytes))
        self.memory = memory
        self.bus = bus
    }

    /// The driver's memory is another from now on. What is in work keeps what it has.
    mutating func replaceMemory(_ map: GuestMap) -> Bool {
        guard var windows = GuestWindows(map, on: bus) else { return false }
        swap(&memory, &windows)
        windows.detach()
        translated?.replaceMap(map)
        return true
    }

    /// Takes the driver's memory off the bus; nothing is in work.
    mutating func detachMemory() { _ = replaceMemory(GuestMap()) }

    var isStalled: Bool { false }

    mutating func hasRequests() -> Bool { ring.hasChains() }

    mutating func next(in slot: RequestSlot, inFlight: Int) throws(VirtqueueError) -> TakenRequest {
        guard try isDirect ? ring.take(into: &chain, from: memory.map) == .chain : takeElsewhere() else { return .none }
        var header = BlockRequestHeader(.read)
        guard let status = statusPlace(), chain.load(&header, from: memory.map) == .here else {
            // There is nowhere to say so, or nothing that was asked.
            return refuse(.failed, at: statusPlace())
        }
        let incoming = chain.readableBytes - UInt64(BlockRequestHeader.byteCount)
        let outgoing = chain.writableBytes - 1
        if header.kind.hasRanges { return takeRanges(header.kind, incoming, outgoing, in: slot, status) }
        switch rules.verdict(header, incoming: incoming, outgoing: outgoing) {
        case .refused(let answer): return refuse(answer, at: status)
        case .identity: return tellIdentity(status)
        case .work(let work):
            requests[slot].begin(chain.ticket, status, work)
            keepData(in: slot, work)
            return .ready(work)
        }
    }

    mutating func nextWaiting(inFlight: Int) -> (slot: RequestSlot, isReachable: Bool)? { nil }

    mutating func nextRange(of slot: RequestSlot) -> DeviceOperation? { requests[slot].later.popLast() }

    mutating func reach(_ slot: RequestSlot, _ direction: DMADirection, into segments: inout [BusSegment]) -> Bool {
        for run in requests[slot].data where !memory.append(run, to: &segments) { return false }
        return true
    }

    mutating func answer(_ request: consuming EndedRequest, _ outcome: WorkOutcome) {
        let kept = requests[request.slot]
        let status: BlockRequestStatus =
            switch outcome {
            case .done: .okay
            case .failed: .failed
            case .unsupported: .unsupported
            }
        if let place = kept.status { store(status, at: place) }
        // Whether or not the read failed: something of it may have come. What is marked here was written before.
        if log != nil, case .read = kept.operation { markData(of: kept) }
        // What was written is trusted by drivers: of a read that failed nobody knows, but the status was.
        let data: UInt32 = if case .read = kept.operation, outcome == .done { kept.byteCount } else { 0 }
        if let ticket = kept.ticket { put(ticket, written: data &+ 1) }
        requests[request.slot].end()
        request.answered()
    }

    mutating func withdraw(_ operations: OptionalOperations) {
        if operations.contains(.discard) { (rules.hasDiscard, rules.hasErasure) = (false, false) }
        if operations.contains(.zeroes) { rules.hasZeroes = false }
        if operations.contains(.flush) { rules.hasFlush = false }
    }

    mutating func publish() -> Bool {
        if !isDirect { letGo() }
        return ring.publish()
    }
}

extension VirtioBlockTransport where Ring: ~Copyable {
    /// The next chain, if all that it names can be reached.
    @inline(never)
    private mutating func takeElsewhere() throws(VirtqueueError) -> Bool {
        let taken: Taken
        if let chainMemory {
            taken = try take(from: chainMemory)
            adoptMap()
        } else if let translated {
            taken = try ring.take(into: &chain, from: translated)
        } else {
            return false
        }
        isParked = taken == .later
        return taken == .chain
    }

    private mutating func take(from memory: some ChainMemory) throws(VirtqueueError) -> Taken {
        try ring.take(into: &chain, from: memory)
    }

    /// Finds the memory that has come, and lets what has gone go.
    private mutating func adoptMap() {
        guard let chainMemory, chainMemory.hasChanged() else { return }
        _ = replaceMemory(chainMemory.map)
    }

    @inline(never)
    private mutating func letGo() {
        chainMemory?.letGo()
        adoptMap()
    }

    /// Gives a chain back.
    @inline(__always)
    private mutating func put(_ ticket: ChainTicket, written: UInt32) {
        if !isDirect { release(ticket) }
        ring.put(ticket, written: written)
    }

    @inline(never)
    private func release(_ ticket: ChainTicket) {
        translated?.release(ticket)
        chainMemory?.release(ticket)
    }

    /// Where the chain's last byte is, which is where its status goes; nil: it has none that can be written.
    private func statusPlace() -> StatusPlace? {
        guard chain.writableBytes > 0, let last = chain.runs.last else { return nil }
        let run = GuestRun(address: last.address &+ UInt64(last.byteCount &- 1), byteCount: 1)
        guard case .here(let region, let offset, _) = memory.map.piece(run, forWriting: true) else { return nil }
        return StatusPlace(region: region, offset: offset, address: run.address)
    }

    private mutating func refuse(_ status: BlockRequestStatus, at place: StatusPlace?) -> TakenRequest {
        if let place { store(status, at: place) }
        put(chain.ticket, written: place == nil ? 0 : 1)
        return .refused
    }

    private func store(_ status: BlockRequestStatus, at place: StatusPlace) {
        place.region.store(status.rawValue, at: place.offset)
        log?.mark(place.address, byteCount: 1)
    }

    @inline(never)
    private func markData(of request: VirtioRequest) {
        for run in request.data { log?.mark(run.address, byteCount: UInt64(run.byteCount)) }
    }

    /// A request of ranges. A driver that knows no flush has zeroes as durable as writes.
    private mutating func takeRanges(
        _ kind: BlockRequestKind, _ incoming: UInt64, _ outgoing: UInt64, in slot: RequestSlot, _ status: StatusPlace
    ) -> TakenRequest {
        guard rules.knows(kind) else { return refuse(.unsupported, at: status) }
        guard outgoing == 0, let count = VirtioBlockRules.rangeCount(incoming) else { return refuse(.failed, at: status) }
        var operations: [DeviceOperation] = []
        for index in (0..<count).reversed() {
            var range = BlockRange(sector: 0, sectorCount: 0)
            let place = UInt64(BlockRequestHeader.byteCount + index * BlockRange.byteCount)
            guard chain.load(&range, at: place, from: memory.map) == .here else { return refuse(.failed, at: status) }
            switch rules.verdict(kind, range) {
            case .refused(let answer): return refuse(answer, at: status)
            case .operation(let operation): operations.append(operation)
            }
        }
        let work = BlockWork(
            operations.removeLast(), ordering: rules.writesThrough && kind == .writeZeroes ? .barrier : .none)
        requests[slot].begin(chain.ticket, status, work)
        requests[slot].later = operations
        return .ready(work)
    }

    /// The disk's name, filled up with zeroes, as far as there is room.
    private mutating func tellIdentity(_ status: StatusPlace) -> TakenRequest {
        var name = IdentityBytes()
        for (index, byte) in identity.enumerated() { name.bytes.setByte(index, to: byte) }
        guard chain.writableBytes > UInt64(IdentityBytes.byteCount), chain.store(name, at: 0, to: memory.map) == .here else {
            return refuse(.failed, at: status)
        }
        store(.okay, at: status)
        for run in chain.writableRuns { log?.mark(run.address, byteCount: UInt64(run.byteCount)) }
        put(chain.ticket, written: UInt32(clamping: chain.writableBytes))
        return .answered
    }

    /// Keeps where a request's data is: behind the header, before the status.
    private mutating func keepData(in slot: RequestSlot, _ work: BlockWork) {
        guard work.byteCount > 0 else { return }
        let isRead = if case .read = work.operation { true } else { false }
        var skip = isRead ? 0 : UInt64(BlockRequestHeader.byteCount)
        var left = work.byteCount
        for run in isRead ? chain.writableRuns : chain.readableRuns {
            if skip >= UInt64(run.byteCount) {
                skip -= UInt64(run.byteCount)
                continue
            }
            let count = UInt32(truncatingIfNeeded: min(UInt64(run.byteCount) - skip, left))
            if count > 0 { requests[slot].data.append(GuestRun(address: run.address &+ skip, byteCount: count)) }
            skip = 0
            left -= UInt64(count)
        }
    }
}

/// Where a request's status byte goes; keeps its memory.
struct StatusPlace {
    let region: SharedRegion
    let offset: Int
    /// The driver's name for it.
    let address: UInt64
}

/// A disk's name as a driver reads it.
private struct IdentityBytes: WireStructure {
    var bytes = InlineArray<20, UInt8>.zero
    init() {}
    init(_ bytes: InlineArray<20, UInt8>) { self.bytes = bytes }
}

/// What is kept of a request until its answer.
struct VirtioRequest {
    var ticket: ChainTicket?
    var status: StatusPlace?
    var operation = DeviceOperation.flush
    var byteCount: UInt32 = 0
    /// Where its data is; its room is kept.
    var data: [GuestRun] = []
    /// Its ranges behind the first, the last one first.
    var later: [DeviceOperation] = []

    mutating func begin(_ ticket: ChainTicket, _ status: StatusPlace, _ work: BlockWork) {
        self.ticket = ticket
        self.status = status
        operation = work.operation
        byteCount = UInt32(clamping: work.byteCount)
        data.removeAll(keepingCapacity: true)
        if !later.isEmpty { later.removeAll() }
    }

    mutating func end() {
        ticket = nil
        status = nil
    }
}
