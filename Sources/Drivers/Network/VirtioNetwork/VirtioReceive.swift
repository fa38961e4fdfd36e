// A ring that the driver receives by: chains are memory for the device's frames. Owned by the queue's thread.
//
// A frame goes into the driver's memory at once where that has room for any frame. Where it has less (chains may be
// merged, and few are there) a frame comes into memory of our own first, and waits for chains: one frame at most, so
// that a driver that gives no memory costs its own frames and no more.

import DMA
import LinuxSystem
import NetworkDevices
import Packets
import SharedMemory
import VirtioMemory
import VirtioRing
import VirtioWire

/// Frames on their way from the device to the driver.
struct VirtioReceive<Ring: DeviceRing & ~Copyable>: ~Copyable {
    var ring: Ring
    let rules: VirtioFrameRules
    /// The way from the device; nil: the ring is not enabled.
    var device: (any NetworkDeviceQueue)?
    var counts = VirtioFrameCounts()
    /// The device may have a frame.
    var isReady = true
    /// A frame waits, or may be there, and the driver has given too little memory.
    var isStarved = false
    /// The driver has given none for so long that frames are thrown away until it does.
    var isStalled = false
    /// What the driver did wrong beside the ring itself.
    var breach: ReceiveFault?

    let bus: MemoryBus
    var memory: GuestWindows
    /// What the driver's addresses mean, if it has an IOMMU: chains name the driver's own memory from their taking on.
    let translated: TranslatedMemory?
    /// The next chain waits for translations.
    var isParked = false
    /// Chains that were taken, oldest first, from `firstChain` on; their memory is in `runs` by the driver's addresses
    /// and in `segments` by the bus's, each from its own place on.
    var chains: [Posted] = []
    var runs: [GuestRun] = []
    var segments: [BusSegment] = []
    var firstChain = 0
    var firstRun = 0
    var firstSegment = 0
    /// Bytes of the chains that were taken.
    var room = 0
    /// Bytes that the longest frame may need, its header with it.
    let most: Int

    /// The memory of the frame in hand, without its header.
    var frame: [BusSegment] = []
    var chain = DescriptorChain()
    /// A header on its way; behind it a frame of our own.
    let staging: SharedRegion
    let stagingAddress: BusAddress
    /// What lies there.
    var held: Held?

    /// One chain until its answer.
    struct Posted {
        let ticket: ChainTicket
        let byteCount: Int
        let runCount: Int
        var segmentCount: Int
    }

    /// A frame of our own.
    struct Held {
        let byteCount: Int
        let header: NetworkHeader
    }

    /// Frames that one turn moves at most.
    static var turn: Int { 64 }
    /// Where a frame of our own begins.
    static var stagingOffset: Int { 64 }

    /// - Parameter mtu: bytes of payload that frames have where the driver does not take larger ones.
    init(
        ring: consuming Ring, rules: VirtioFrameRules, memory: consuming GuestWindows, bus: MemoryBus, mtu: Int,
        translated: TranslatedMemory? = nil
    ) throws(Errno) {
        staging = try SharedRegion(anonymous: SharedRegion.wholePages(Self.stagingOffset + VirtioFrameRules.mostBytes))
        stagingAddress = bus.attach(staging)
        self.ring = ring
        self.rules = rules
        self.memory = memory
        self.bus = bus
        self.translated = translated
        let isLarge = !rules.given.isDisjoint(with: [.tcp4, .tcp6])
        most = NetworkHeader.byteCount + (isLarge ? VirtioFrameRules.mostBytes : min(mtu + 18, VirtioFrameRules.mostBytes))
    }

    /// Why nothing more comes by this ring.
    var fault: String? { breach?.description ?? ring.fault?.description }
    /// Chains that were taken and are not answered.
    var chainCount: Int { chains.count - firstChain }

    /// The driver's memory is another from now on, for the chains that were taken, too.
    mutating func replaceMemory(_ map: GuestMap) -> Bool {
        guard var windows = GuestWindows(map, on: bus) else { return false }
        swap(&memory, &windows)
        windows.detach()
        translated?.replaceMap(map)
        lookUpAgain()
        return true
    }

    /// Receives through another queue, or through none.
    mutating func use(_ queue: (any NetworkDeviceQueue)?) {
        device = queue
        isReady = queue != nil
        if queue == nil, held.take() != nil { counts[.notEnabled] &+= 1 }
    }

    /// Moves frames; how many.
    mutating func work() -> Int {
        guard let device else { return 0 }
        (isStarved, isParked) = (false, false)
        var moved = 0
        while moved < Self.turn, isReady || held != nil, fault == nil {
            if let held {
                guard place(held) else { break }
                self.held = nil
                moved += 1
                continue
            }
            takeChains(rules.isMergeable ? most : 1)
            guard fault == nil else { break }
            guard chainCount > 0 else {
                isStarved = true
                if isStalled { moved += throwAway(device) }
                break
            }
            isStalled = false
            if rules.isMergeable, room < most { stage(device) } else { receive(device) }
            // A frame that is thrown away was work, too.
            if isReady { moved += 1 }
        }
        return moved
    }

    /// The driver said that there is something: perhaps memory.
    mutating func wake() { if isStarved { isReady = true } }

    /// A frame has waited long enough, and what the device has, too.
    mutating func expire() {
        guard isStarved else { return }
        if held.take() != nil { counts[.expired] &+= 1 }
        isStalled = true
        isReady = true
    }

    /// The frame that waits, for a successor: its header as it lies in shared memory, then its bytes.
    mutating func leave() -> [UInt8]? {
        guard let left = held.take() else { return nil }
        left.header.store(staging, at: 0)
        return staging.bytes(at: 0, count: NetworkHeader.byteCount) + staging.bytes(at: Self.stagingOffset, count: left.byteCount)
    }

    /// A frame that waited with a predecessor. What is none is left out.
    mutating func take(_ left: [UInt8]) {
        let byteCount = left.count - NetworkHeader.byteCount
        guard rules.isMergeable, held == nil, byteCount >= VirtioFrameRules.leastBytes, byteCount <= VirtioFrameRules.mostBytes
        else { return }
        var header = InlineArray<12, UInt8>(repeating: 0)
        for index in header.indices { header[index] = left[index] }
        staging.write(Array(left.dropFirst(NetworkHeader.byteCount)), at: Self.stagingOffset)
        held = Held(byteCount: byteCount, header: NetworkHeader(header))
    }

    /// Nobody uses the ring any more.
    mutating func close() {
        use(nil)
        removeChains(chainCount)
        _ = replaceMemory(GuestMap())
        bus.detach(staging)
    }
}

/// What a driver does wrong with memory for frames.
enum ReceiveFault: Error, Equatable, CustomStringConvertible {
    /// A chain with memory that is only to be read.
    case readableMemory
    /// A chain that cannot hold a header.
    case noRoomForHeader(UInt64)
    /// A chain in more pieces than a frame is received in.
    case tooManyPieces(Int)
    /// Memory that it gave for a frame and then took away.
    case memoryGone

    /// `memory of 4 bytes for a frame, whose header has 12`.
    var description: String {
        switch self {
        case .readableMemory: "memory for a frame that is only to be read"
        case .noRoomForHeader(let count): "memory of \(count) bytes for a frame, whose header has \(NetworkHeader.byteCount)"
        case .tooManyPieces(let count): "memory for a frame in \(count) pieces"
        case .memoryGone: "memory for a frame that was taken away"
        }
    }
}
