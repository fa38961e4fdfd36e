// A queue's way from the device to the frontend: takes frames from the device only when there is a place for them, puts
// them into the pages that the frontend posted, answers. Owned by one reactor thread.
//
// At most one frame waits here for pages, so a frontend that posts none costs its own traffic and no memory
// (attacks.md B10); the rest waits in the device, whose queue is bounded and drops.

import DMA
import DriverRuntime
import FrameMaps
import Hypervisor
import LinuxSystem
import NetworkDevices
import NetworkProtocol
import Packets
import SharedMemory
import SharedRing
import XenTypes

/// The receive ring and the frames under way.
struct GuestReceive: ~Copyable {
    var ring: BackRing<ReceiveRing>
    let interface: InterfaceState
    let mappings: GrantMappings
    let hypervisor: any Hypervisor
    let time: any TimeSource
    let frontend: DomainID
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
    var isStarved = false
    /// When the frame that waits came, or when the queue was first seen without a page (nanoseconds of `time`); 0:
    /// neither.
    var starvedSince: UInt64 = 0
    /// Nobody posts pages: frames are thrown away.
    var isStalled = false {
        didSet { if oldValue != isStalled { interface.stalledQueues += isStalled ? 1 : -1 } }
    }
    /// How many pages there were when that began: with no more than these the same would begin again (attacks.md B9).
    private var stalledWith = 0

    /// The way to the device.
    var deviceQueue: MappedDeviceQueue
    let dma: DMADevice
    let staging: PrivatePages
    /// Pages that the frontend posted and that hold nothing yet, oldest first. Plain values: no reference is counted
    /// for a slot.
    var posted: [Posted]
    var postedHead = 0
    var postedCount = 0
    /// Of these, those whose pages are not mapped.
    var postedUnmapped = 0
    var mappingGeneration: UInt32 = 0
    /// Frames in `staging`, in order, not yet put before the frontend.
    var staged: [Frame] = []
    /// The last of them has no pages yet.
    var holdsFrame = false
    /// Where the device is to put a frame, or has put it.
    var pieces: [PagePiece] = []
    var copies: [GrantCopy] = []
    var copyOwners: [Int] = []
    /// Bytes that the device gave in this turn.
    var turnBytes: UInt64 = 0

    static let page = SharedRegion.pageSize

    struct Posted {
        let request: ReceiveRequest
        /// The page in our frame map; nil: it is not mapped.
        let page: Pfn?
    }

    struct Frame: Sendable {
        var slot: Int
        var byteCount: Int
        var marks: FrameMarks
        var hash: (value: UInt32, over: HashTypes)?
        var plan: ReceivePlan { ReceivePlan(byteCount: byteCount, isSegmented: marks.segmentation != nil, hasHash: hash != nil) }
    }

    /// - Parameter left: pages that a predecessor took and did not use.
    init(_ ring: consuming BackRing<ReceiveRing>, _ queue: QueueContext, posted left: [ReceiveRequest] = []) {
        journal = queue.journal
        index = queue.index
        deviceQueue = MappedDeviceQueue(queue.memory, queue.device)
        dma = queue.memory.dma
        staging = queue.memory.staging
        posted = Array(
            repeating: Posted(request: ReceiveRequest(id: 0, reference: GrantReference(0)), page: nil),
            count: Int(ring.geometry.slotCount))
        self.ring = ring
        interface = queue.interface
        mappings = queue.mappings
        hypervisor = queue.hypervisor
        time = queue.time
        frontend = queue.frontend
        dataSlots = queue.interface.plainPages
        pieces.reserveCapacity(QueueMemory.pagesPerFrame)
        for request in left { append(resolve(request)) }
    }

    var isOpen: Bool { !isClosing && fault == nil }

    /// Whether frames wait to be answered in the next turn.
    var hasStaged: Bool { staged.count > (holdsFrame ? 1 : 0) }

    /// Pages of data that the frontend's next frame may need. Somebody may have set a larger MTU since the frontend
    /// connected: a frame that was cut off shows it.
    private(set) var dataSlots: Int

    /// The device had a frame for which there was no room.
    mutating func grow() { if interface.features.contains(.scatterGather) { dataSlots = QueueMemory.pagesPerFrame } }

    /// Slots of extra information that it may need.
    var extraSlots: Int {
        (interface.features.isDisjoint(with: [.tcp4, .tcp6]) ? 0 : 1) + (interface.scaling.isActive ? 1 : 0)
    }

    /// Moves frames; how many.
    mutating func work() -> Int {
        guard isOpen else { return 0 }
        var moved = 0
        turnBytes = 0
        if mappingGeneration != mappings.generation { lookUpAgain() }
        isStarved = false
        if holdsFrame { placeHeld() }
        while moved < TurnLimits.frames, turnBytes < TurnLimits.bytes, isOpen, !isStarved, deviceIsReady {
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
                if staged.count == QueueMemory.stagedFrames { deliverStaged() }
                if receiveStaged() { moved += 1 }
            }
        }
        deliverStaged()
        if !isStarved { starvedSince = 0 } else if starvedSince == 0 || moved > 0 { starvedSince = time.nanoseconds }
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
            _ = drop(.expired)
        }
        isStarved = false
        starvedSince = 0
        isStalled = true
        stalledWith = postedCount
    }
}
