// A submission queue and its completion queue: a page each, and behind them a page for each command, for its page list
// or its range. The memory is one region, which the controller reads and writes; what it writes is looked at once.

import DMA
import SharedMemory

/// What the controller said of a command; nothing of it is believed yet.
struct NVMeCompletion {
    var identifier: UInt16
    var status: NVMeStatus
    /// Command dword 0.
    var result: UInt32
}

/// A pair of queues' memory.
struct QueueMemory {
    let region: SharedRegion
    /// Where the controller finds each of its pages, which need not be neighbours.
    let pages: [DeviceAddress]

    /// Memory that is only looked at: where the controller has it is of no matter.
    static func unplaced(_ region: SharedRegion) -> QueueMemory {
        QueueMemory(region: region, pages: Array(repeating: .none, count: region.pageCount))
    }
}

/// Where a pair of queues is, for the controller.
struct QueuePlace: Sendable {
    let number: Int
    let submissionEntries: Int
    let completionEntries: Int
    let submissionAddress: DeviceAddress
    let completionAddress: DeviceAddress
}

/// One pair of queues, as its one thread sees them.
struct QueueRings: ~Copyable {
    static let page = SharedRegion.pageSize
    /// As many as a page has room for, and one of them stays free so that full is not empty.
    static let mostCommands = page / 64 - 1

    /// Which pair.
    let number: Int
    /// Entries of either queue.
    let submissionEntries: Int
    let completionEntries: Int
    let region: SharedRegion
    /// Where the controller finds each of the region's pages.
    private let pages: [DeviceAddress]
    private let submissionDoorbell: Int
    private let completionDoorbell: Int
    private var tail = 0
    private var toldTail = 0
    private var head = 0
    private var toldHead = 0
    private var phase: UInt32 = 1
    /// Entries pushed and completions taken since the pair was made.
    private var pushed: UInt32 = 0
    private var taken: UInt32 = 0
    /// Where all of it is noted for a successor; nil: nowhere.
    let ledger: QueueLedger?

    /// - Parameter lists: pages for commands' lists.
    static func byteCount(lists: Int) -> Int { (2 + lists) * page }

    /// - Parameters:
    ///   - memory: `byteCount(lists:)` bytes, zeroed, and where the controller finds them.
    ///   - ledger: where what is done is noted for a successor, from the beginning; nil: nowhere.
    ///   - isResumed: whether the pair is a predecessor's, which is gone on with where the ledger says.
    init(
        _ number: Int, _ capabilities: NVMeCapabilities, _ memory: QueueMemory, ledger: QueueLedger? = nil, isResumed: Bool = false
    ) {
        self.number = number
        self.ledger = ledger
        region = memory.region
        pages = memory.pages
        // Powers of two, so that counters wrap where places do.
        let most = 1 << (Int.bitWidth - 1 - capabilities.queueEntries.leadingZeroBitCount)
        submissionEntries = min(Self.page / 64, most)
        // At least as deep as the other: it never overflows.
        completionEntries = min(Self.page / 16, most)
        submissionDoorbell = capabilities.submissionDoorbell(number)
        completionDoorbell = capabilities.completionDoorbell(number)
        if isResumed { resume() } else { ledger?.clear() }
    }

    private mutating func resume() {
        guard let ledger else { return }
        (pushed, taken) = (ledger.tail, ledger.head)
        tail = Int(pushed) & (submissionEntries - 1)
        head = Int(taken) & (completionEntries - 1)
        phase = Int(taken) & completionEntries == 0 ? 1 : 0
        // Where it is not known whether the controller was told, it is told: at worst it hears the same again.
        toldTail = ledger.toldTail == pushed ? tail : -1
        toldHead = ledger.toldHead == taken ? head : -1
    }

    /// Commands that were pushed and whose completions have not been taken.
    var underWay: Int { Int(pushed &- taken) }

    /// Whether all completions but the next `count` are those of a pass before: nobody can have written there.
    func phasesAreOld(beyond count: Int) -> Bool {
        (count..<completionEntries).allSatisfy { distance in
            let place = head + distance
            let isWrapped = place >= completionEntries
            let word = region.loadAcquiring(Self.page + (isWrapped ? place - completionEntries : place) * 16 + 12)
            return (word >> 16 & 1 == phase) == isWrapped
        }
    }

    /// The most commands at once.
    var depth: Int { submissionEntries - 1 }
    var submissionAddress: DeviceAddress { pages[0] }
    var completionAddress: DeviceAddress { pages[1] }
    /// What the controller is told of the pair.
    var place: QueuePlace {
        QueuePlace(
            number: number, submissionEntries: submissionEntries, completionEntries: completionEntries,
            submissionAddress: submissionAddress, completionAddress: completionAddress)
    }
    /// Where a command's page is in the region, and on the bus.
    @inline(__always)
    static func listOffset(_ command: Int) -> Int { (2 + command) * page }
    @inline(__always)
    func listOffset(_ command: Int) -> Int { Self.listOffset(command) }
    @inline(__always)
    func listAddress(_ command: Int) -> DeviceAddress { pages[2 + command] }

    /// As new: the controller has forgotten the pair.
    mutating func clear() {
        region.fill(0, count: 2 * Self.page)
        (tail, toldTail, head, toldHead, phase) = (0, 0, 0, 0, 1)
        (pushed, taken) = (0, 0)
        ledger?.clear()
    }

    /// Writes a command; the controller hears of it with `ring`. There is room for `depth` of them.
    @inline(__always)
    mutating func push(_ command: NVMeCommand) {
        region.copyOut(command, byteCount: 64, at: tail * 64)
        tail += 1
        if tail == submissionEntries { tail = 0 }
        pushed &+= 1
    }

    /// The same, of a command whose identifier is a slot's number; a successor finds it.
    @inline(__always)
    mutating func push(_ command: NVMeCommand, of slot: Int) {
        ledger?.note(command, slot: slot, at: pushed)
        push(command)
    }

    /// Tells the controller of what was pushed: once for all of it, and not at all if there is nothing, for a doorbell
    /// that is rung with its old value is an error.
    @inline(__always)
    mutating func ring(_ port: any NVMePort) {
        if tail == toldTail { return }
        ledger?.willTell(tail: pushed)
        // The commands before the doorbell.
        deviceWriteFence()
        port.store(UInt32(tail), at: submissionDoorbell)
        ledger?.didTell(tail: pushed)
        toldTail = tail
    }

    /// The next completion; nil: there is none yet.
    @inline(__always)
    mutating func next() -> NVMeCompletion? {
        let place = Self.page + head * 16
        // The word with the phase first, and what the controller wrote before it after.
        let word = region.loadAcquiring(place + 12)
        guard word >> 16 & 1 == phase else { return nil }
        let result = region.loadRelaxed(place)
        head += 1
        if head == completionEntries {
            head = 0
            phase ^= 1
        }
        taken &+= 1
        return NVMeCompletion(
            identifier: UInt16(truncatingIfNeeded: word), status: NVMeStatus(rawValue: UInt16(truncatingIfNeeded: word >> 17)),
            result: result)
    }

    /// Tells the controller which completions have been taken, once for all of them.
    @inline(__always)
    mutating func acknowledge(_ port: any NVMePort) {
        if head == toldHead { return }
        ledger?.took(head: taken)
        port.store(UInt32(head), at: completionDoorbell)
        ledger?.didTell(head: taken)
        toldHead = head
    }
}
