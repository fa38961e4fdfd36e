// A queue's way from the device to the frontend: takes frames from the device only when there is a place for them, puts them into the
// pages that the frontend posted, answers. Owned by one reactor thread.
//
// At most one frame waits here for pages, so a frontend that posts none costs its own traffic and no memory (XSA-392); the rest waits in
// the device, whose queue is bounded and drops.

import DMA
import HostDevices
import Hypervisor
import LinuxSystem
import Packets
import SharedMemory
import SharedRing
import XenBus
import XenWire

/// The receive ring and the frames under way.
struct ReceiveCore: ~Copyable {
    var ring: BackRing<ReceiveRing>
    let interface: InterfaceState
    let mappings: GrantMappings
    let hypervisor: any Hypervisor
    let frontend: DomainID
    let device: any NetworkDeviceQueue
    /// Which of the interface's queues this is.
    let index: Int
    var fault: String?
    var isClosing = false
    var statistics = NetworkQueueStatistics()
    /// Nil while nobody traces.
    var trace: QueueTrace?
    /// What is taken is written down there; nil: nowhere.
    let journal: InterfaceJournal?
    /// The device may have frames; cleared when it says that it has none.
    var deviceIsReady = true
    var deviceIsGone = false
    /// There are frames, or may be, and too few pages.
    private(set) var isStarved = false
    /// When the frame that waits came, or when the queue was first seen without a page (monotonic nanoseconds); 0: neither.
    private(set) var starvedSince: UInt64 = 0
    /// Nobody posts pages: frames are thrown away.
    private(set) var isStalled = false {
        didSet { if oldValue != isStalled { interface.stalledQueues += isStalled ? 1 : -1 } }
    }
    /// How many pages there were when that began: with no more than these the same would begin again (B9).
    private var stalledWith = 0

    private let bus: MemoryBus
    private let staging: SharedRegion
    private let stagingAddress: BusAddress
    /// Pages that the frontend posted and that hold nothing yet, oldest first. Plain values: no reference is counted for a slot.
    private var posted: [Posted]
    private var postedHead = 0
    private(set) var postedCount = 0
    private var mappingGeneration: UInt32 = 0
    /// Frames in `staging`, in order, not yet put before the frontend.
    private var staged: [Frame] = []
    /// The last of them has no pages yet.
    private(set) var holdsFrame = false
    private var segments: [BusSegment] = []
    private var copies: [GrantCopy] = []
    private var copyOwners: [Int] = []

    /// Frames of one turn at most.
    static let batch = 64
    private static let page = SharedRegion.pageSize

    private struct Posted {
        let request: ReceiveRequest
        /// Where the page is mapped; nil: nowhere.
        let address: BusAddress?
    }

    struct Frame {
        var slot: Int
        var byteCount: Int
        var marks: FrameMarks
        var hash: (value: UInt32, over: HashTypes)?
        var plan: ReceivePlan { ReceivePlan(byteCount: byteCount, isSegmented: marks.segmentation != nil, hasHash: hash != nil) }
    }

    init(
        ring: consuming BackRing<ReceiveRing>, interface: InterfaceState, mappings: GrantMappings, hypervisor: any Hypervisor,
        frontend: DomainID, device: any NetworkDeviceQueue, index: Int, bus: MemoryBus, buffers: QueueBuffers,
        journal: InterfaceJournal? = nil, posted left: [ReceiveRequest] = []
    ) {
        self.journal = journal
        self.index = index
        staging = buffers.staging
        self.bus = bus
        stagingAddress = bus.attach(staging)
        posted = Array(
            repeating: Posted(request: ReceiveRequest(id: 0, reference: GrantReference(0)), address: nil),
            count: Int(ring.geometry.slotCount))
        self.ring = ring
        self.interface = interface
        self.mappings = mappings
        self.hypervisor = hypervisor
        self.frontend = frontend
        self.device = device
        segments.reserveCapacity(QueueBuffers.pagesPerFrame)
        // Pages that a predecessor took and did not use.
        for request in left {
            posted[postedCount] = resolve(request)
            postedCount += 1
        }
    }

    var isOpen: Bool { !isClosing && fault == nil }

    /// Whether frames wait to be answered in the next turn.
    var hasStaged: Bool { staged.count > (holdsFrame ? 1 : 0) }

    /// Pages of data that the frontend's next frame may need.
    private var dataSlots: Int {
        if !interface.features.contains(.scatterGather) { return 1 }
        return interface.features.isDisjoint(with: [.tcp4, .tcp6]) ? 3 : QueueBuffers.pagesPerFrame
    }

    /// Slots of extra information that it may need.
    private var extraSlots: Int {
        (interface.features.isDisjoint(with: [.tcp4, .tcp6]) ? 0 : 1) + (interface.spreading.isActive ? 1 : 0)
    }

    /// Moves frames; how many.
    mutating func work() -> Int {
        guard isOpen else { return 0 }
        var moved = 0
        if mappingGeneration != mappings.generation { lookUpAgain() }
        isStarved = false
        if holdsFrame { placeHeld() }
        while moved < Self.batch, isOpen, !isStarved, deviceIsReady {
            takePosted(dataSlots + extraSlots)
            if isStalled {
                guard postedCount > stalledWith else {
                    moved += throwAway()
                    break
                }
                isStalled = false
            }
            if postedCount == 0 {
                isStarved = true
            } else if canReceiveDirectly {
                if !staged.isEmpty {
                    // What is staged takes its pages first; then there may be too few.
                    deliverStaged()
                    continue
                }
                if receiveDirectly() { moved += 1 }
            } else {
                if staged.count == QueueBuffers.stagedFrames { deliverStaged() }
                if receiveStaged() { moved += 1 }
            }
        }
        deliverStaged()
        if !isStarved { starvedSince = 0 } else if starvedSince == 0 || moved > 0 { starvedSince = monotonicNanoseconds() }
        return moved
    }

    /// Takes what was posted since; true if there is more than there was.
    mutating func hasNewPages() -> Bool {
        let before = postedCount
        takePosted(posted.count)
        return postedCount > before || fault != nil
    }

    /// The frontend rang: there may be pages.
    mutating func wake() {
        if isStarved || isStalled { deviceIsReady = true }
    }

    /// The frame that waits, and what the device has, have waited long enough.
    mutating func expire() {
        guard isOpen, isStarved else { return }
        if holdsFrame {
            _ = staged.popLast()
            holdsFrame = false
            statistics.receiveExpired &+= 1
            statistics.receiveDropped &+= 1
        }
        isStarved = false
        starvedSince = 0
        isStalled = true
        stalledWith = postedCount
    }

    // MARK: Pages

    private mutating func takePosted(_ wanted: Int) {
        guard postedCount < wanted else { return }
        do throws(RingError) {
            while postedCount < posted.count {
                let index = ring.nextRequestIndex
                guard let request = try ring.nextRequest() else { break }
                journal?.took(request, at: index)
                posted[(postedHead + postedCount) % posted.count] = resolve(request)
                postedCount += 1
            }
        } catch { fault = "\(error)" }
    }

    private func resolve(_ request: ReceiveRequest) -> Posted {
        Posted(request: request, address: mappings.address(request.reference, writable: true))
    }

    private mutating func lookUpAgain() {
        mappingGeneration = mappings.generation
        for index in 0..<postedCount {
            let place = (postedHead + index) % posted.count
            posted[place] = resolve(posted[place].request)
        }
    }

    @inline(__always)
    private func postedPage(_ index: Int) -> Posted {
        let place = postedHead &+ index
        return posted[place < posted.count ? place : place &- posted.count]
    }

    private mutating func dropPosted(_ count: Int) {
        postedHead = (postedHead + count) % posted.count
        postedCount -= count
    }

    // MARK: Straight into the frontend's pages

    /// Whether the largest frame would fit mapped pages as they come.
    private var canReceiveDirectly: Bool {
        let wanted = dataSlots + extraSlots
        // A frame's bytes may turn out to be another queue's.
        guard postedCount >= wanted, !(interface.spreading.isActive && interface.queueCount > 1) else { return false }
        for index in 0..<wanted where postedPage(index).address == nil { return false }
        return true
    }

    /// Lets the device write into mapped pages; true if it had a frame. The device says only afterwards what it was, so places of extra
    /// slots are left free behind the first page, and what lies behind them is moved up if there are fewer.
    private mutating func receiveDirectly() -> Bool {
        let reserved = extraSlots
        segments.removeAll(keepingCapacity: true)
        for page in 0..<dataSlots {
            guard let address = postedPage(page == 0 ? 0 : page + reserved).address else { return false }
            if let last = segments.last, last.address.advanced(by: UInt64(last.byteCount)) == address {
                segments[segments.count - 1].byteCount += UInt32(Self.page)
            } else {
                segments.append(BusSegment(address: address, byteCount: UInt32(Self.page)))
            }
        }
        guard let (count, offload) = receive() else { return false }
        guard let frame = describe(count, offload, slot: -1) else { return true }
        let plan = frame.plan
        // At most one page moves for an MTU of 9000; large frames are segmented ones and lie right.
        if plan.dataSlots > 1, plan.extraSlots < reserved { moveUp(plan, by: reserved - plan.extraSlots, count) }
        answer(frame)
        statistics.mappedFrames &+= 1
        return true
    }

    private func moveUp(_ plan: ReceivePlan, by shift: Int, _ byteCount: Int) {
        for page in 1..<plan.dataSlots {
            let to = page + plan.extraSlots
            guard let source = postedPage(to + shift).address, let target = postedPage(to).address else { return }
            let count = min(Self.page, byteCount - page * Self.page)
            _ = bus.copy(BusSegment(address: source, byteCount: UInt32(count)), to: target)
        }
    }

    // MARK: Through private memory

    /// Takes a frame into `staging`; true if the device had one. A frame without enough pages stays there.
    private mutating func receiveStaged() -> Bool {
        let slot = freeStagingSlot
        let offset = slot * QueueBuffers.pagesPerFrame * Self.page
        segments.removeAll(keepingCapacity: true)
        guard let address = stagingAddress.advanced(by: UInt64(offset)) else { return false }
        segments.append(BusSegment(address: address, byteCount: UInt32(QueueBuffers.pagesPerFrame * Self.page)))
        guard let (count, offload) = receive() else { return false }
        guard let frame = describe(count, offload, slot: slot) else { return true }
        staged.append(frame)
        if reservedSlots > postedCount {
            takePosted(reservedSlots)
            if reservedSlots > postedCount {
                holdsFrame = true
                isStarved = true
            }
        }
        return true
    }

    private var freeStagingSlot: Int {
        // A held frame keeps its place, which is slot 0 after it was compacted by `deliverStaged`.
        staged.count
    }

    /// Slots that all staged frames need.
    private var reservedSlots: Int {
        var total = 0
        for frame in staged { total += frame.plan.slotCount }
        return total
    }

    private mutating func placeHeld() {
        takePosted(reservedSlots)
        if reservedSlots > postedCount {
            isStarved = true
        } else {
            holdsFrame = false
        }
    }

    /// Copies staged frames into the frontend's pages and answers.
    private mutating func deliverStaged() {
        let count = staged.count - (holdsFrame ? 1 : 0)
        if count > 0 {
            var slot = 0
            for index in 0..<count { slot = scheduleCopies(staged[index], index, from: slot) }
            var failed = Set<Int>()
            if !copies.isEmpty {
                let statuses = (try? hypervisor.copyGrants(copies)) ?? []
                for index in copyOwners.indices where index >= statuses.count || statuses[index] != .okay {
                    failed.insert(copyOwners[index])
                }
                copies.removeAll(keepingCapacity: true)
                copyOwners.removeAll(keepingCapacity: true)
            }
            for index in 0..<count {
                if failed.contains(index) { refuse(staged[index]) } else { answer(staged[index]) }
            }
        }
        guard holdsFrame, var frame = staged.last else { return staged.removeAll(keepingCapacity: true) }
        // To the first place, where the next look finds it.
        if frame.slot != 0 {
            staging.copy(
                from: staging, frame.slot * QueueBuffers.pagesPerFrame * Self.page, count: frame.byteCount, to: 0)
            frame.slot = 0
        }
        staged = [frame]
    }

    /// Copies what goes into mapped pages, lists what the hypervisor must copy; the first slot after the frame's.
    private mutating func scheduleCopies(_ frame: Frame, _ owner: Int, from first: Int) -> Int {
        let plan = frame.plan
        let base = frame.slot * QueueBuffers.pagesPerFrame * Self.page
        for page in 0..<plan.dataSlots {
            let target = postedPage(first + (page == 0 ? 0 : page + plan.extraSlots))
            let count = min(Self.page, frame.byteCount - page * Self.page)
            if let address = target.address {
                _ = bus.write(BusSegment(address: address, byteCount: UInt32(count)), from: staging, at: base + page * Self.page)
            } else {
                copies.append(
                    GrantCopy(
                        source: .local(staging, offset: base + page * Self.page),
                        destination: .grant(target.request.reference, of: frontend, offset: 0), byteCount: count))
                copyOwners.append(owner)
            }
        }
        statistics.copiedFrames &+= 1
        return first + plan.slotCount
    }

    // MARK: Frames

    /// One frame from the device into `segments`.
    private mutating func receive() -> (byteCount: Int, FrameOffload)? {
        switch device.receive(into: segments.span) {
        case .frame(let byteCount, let offload): return (byteCount, offload)
        case .nothing: deviceIsReady = false
        case .spoilt: statistics.receiveDropped &+= 1
        case .failed:
            deviceIsReady = false
            deviceIsGone = true
        }
        return nil
    }

    /// Looks at the frame just received into `segments`, completes a checksum that the frontend does not take; nil if the frame is not for it.
    private mutating func describe(_ byteCount: Int, _ offload: FrameOffload, slot: Int) -> Frame? {
        var frame = Frame(slot: slot, byteCount: byteCount, marks: FrameMarks(), hash: nil)
        frame.marks.isValidated = offload.isValidated
        let spreads = interface.spreading.isActive
        let isPlain = offload.checksum == nil && offload.segmentation == nil && !spreads
        let room = dataSlots * Self.page
        guard byteCount >= NetworkProtocol.headerSize, byteCount <= min(room, NetworkProtocol.maximumPacketSize) else { return drop() }
        if isPlain && interface.wanted == nil { return frame }
        // The page may be the frontend's: what is decided on is a copy.
        let head = QueueBuffers.stagedFrames * QueueBuffers.pagesPerFrame * Self.page
        let headCount = BusFrame.copyHead(
            segments.span, min(byteCount, FrameHeaders.mostBytes), on: bus, to: staging, at: head)
        if interface.wanted != nil, !interface.wants(MACAddress(littleEndian: staging.load(head))) { return drop() }
        if isPlain { return frame }
        let headers = FrameHeaders(in: staging, at: head, count: headCount)
        guard let (marks, unfinished) = offload.marks(for: interface.abilities, headers) else { return drop() }
        if let unfinished, !BusFrame.complete(unfinished, segments.span, byteCount: byteCount, on: bus) { return drop() }
        frame.marks = marks
        if spreads, let headers {
            let spreading = interface.spreading
            frame.hash = spreading.toeplitz.hash(headers, in: staging, at: head, types: spreading.types)
            if let hash = frame.hash, interface.queueCount > 1 {
                let target = spreading.queue(hash.value, of: interface.queueCount)
                if target != index, slot >= 0 { return handOver(frame, to: target) }
            }
        }
        return frame
    }

    /// Gives a staged frame to the queue that the frontend's mapping names.
    private mutating func handOver(_ frame: Frame, to target: Int) -> Frame? {
        let offset = frame.slot * QueueBuffers.pagesPerFrame * Self.page
        return interface.handOver(frame, staging, offset, target) ? nil : drop()
    }

    /// Takes a frame that another queue's device gave; false if there is no room.
    mutating func accept(_ frame: Frame, from region: SharedRegion, _ offset: Int) -> Bool {
        guard isOpen, !holdsFrame, !isStalled else { return false }
        if staged.count == QueueBuffers.stagedFrames { deliverStaged() }
        var own = frame
        own.slot = freeStagingSlot
        staging.copy(
            from: region, offset, count: frame.byteCount, to: own.slot * QueueBuffers.pagesPerFrame * Self.page)
        staged.append(own)
        takePosted(reservedSlots)
        if reservedSlots > postedCount {
            holdsFrame = true
            isStarved = true
            starvedSince = monotonicNanoseconds()
        }
        return true
    }

    private mutating func drop() -> Frame? {
        statistics.receiveDropped &+= 1
        return nil
    }

    /// Puts a frame, whose bytes are in place, before the frontend.
    private mutating func answer(_ frame: Frame) {
        let plan = frame.plan
        var flags: ReceiveFlags = []
        if frame.marks.isBlank { flags.insert(.checksumBlank) }
        if frame.marks.isValidated { flags.insert(.dataValidated) }
        if plan.extraSlots > 0 { flags.insert(.extraInfo) }
        if plan.dataSlots > 1 { flags.insert(.moreData) }
        push(0, flags, min(frame.byteCount, Self.page))
        if let segmentation = frame.marks.segmentation {
            var extra = ExtraInfo(segmenting: segmentation.type, size: segmentation.size)
            extra.hasMore = frame.hash != nil
            respond(1, ReceiveSlot(extra))
        }
        if let hash = frame.hash {
            respond(plan.extraSlots, ReceiveSlot(ExtraInfo(hash: hash.value, over: hash.over, .toeplitz)))
        }
        var left = frame.byteCount - Self.page
        var slot = 1 + plan.extraSlots
        while left > 0 {
            push(slot, left > Self.page ? .moreData : [], min(left, Self.page))
            left -= Self.page
            slot += 1
        }
        if let trace { tell(trace, frame) }
        dropPosted(plan.slotCount)
        statistics.received &+= 1
        statistics.receivedBytes &+= UInt64(frame.byteCount)
    }

    private mutating func push(_ slot: Int, _ flags: ReceiveFlags, _ byteCount: Int) {
        let request = postedPage(slot).request
        respond(slot, ReceiveSlot(ReceiveResponse(id: request.id, flags: flags, status: Int16(byteCount))))
    }

    /// Puts one slot on the ring; `index` is its place among the posted ones.
    @inline(__always)
    private mutating func respond(_ index: Int, _ slot: ReceiveSlot) {
        ring.push(slot)
        if let trace { trace.answered(slot, page: postedPage(index).request.reference) }
    }

    private func tell(_ trace: QueueTrace, _ frame: Frame) {
        let (plan, base) = (frame.plan, frame.slot * QueueBuffers.pagesPerFrame * Self.page)
        for page in 0..<plan.dataSlots {
            let count = min(Self.page, frame.byteCount - page * Self.page)
            if frame.slot >= 0 {
                trace.append(staging, base + page * Self.page, count)
            } else if let grant = mappings.grant(postedPage(page == 0 ? 0 : page + plan.extraSlots).request.reference) {
                trace.append(grant.region, grant.offset, count)
            }
        }
        trace.received(.okay, byteCount: frame.byteCount)
    }

    /// A page of the frame could not be written: an error in every slot, so that the frontend drops it whole (B27).
    private mutating func refuse(_ frame: Frame) {
        let count = frame.plan.slotCount
        for slot in 0..<count {
            let request = postedPage(slot).request
            respond(
                slot,
                ReceiveSlot(
                    ReceiveResponse(id: request.id, flags: slot + 1 < count ? .moreData : [], status: NetworkStatus.error.rawValue)))
        }
        if let trace { trace.received(.error, byteCount: frame.byteCount) }
        dropPosted(count)
        statistics.receiveDropped &+= 1
    }

    private mutating func throwAway() -> Int {
        var gone = 0
        segments.removeAll(keepingCapacity: true)
        segments.append(BusSegment(address: stagingAddress, byteCount: UInt32(QueueBuffers.pagesPerFrame * Self.page)))
        while gone < Self.batch, receive() != nil {
            gone += 1
            statistics.receiveExpired &+= 1
            statistics.receiveDropped &+= 1
        }
        return gone
    }
}
