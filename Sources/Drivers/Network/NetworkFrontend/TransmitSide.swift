// A queue's way from its device to the backend: frames are read straight into pages that the backend may read, and
// named on the ring. Owned by one reactor thread.

import DMA
import DriverRuntime
import Hypervisor
import NetworkDevices
import NetworkProtocol
import Packets
import SharedMemory
import SharedRing
import XenTypes

/// The transmit ring and the pages on it.
struct TransmitSide: ~Copyable {
    var ring: FrontRing<TransmitRing>
    private let features: NetworkFeatures
    private let abilities: PeerAbilities
    private let references: [GrantReference]
    private let address: BusAddress
    private let device: any NetworkDeviceQueue
    /// Pages that are free; the last is taken first, for what came back last is still in the processor's cache. What
    /// comes back together is put back so that it comes out in the same order: neighbours stay neighbours.
    private var free: [UInt16]
    /// By id: whether it is on the ring.
    private var isUsed: [Bool]
    /// Slots of extra information on the ring, whose answers carry no id.
    private var extrasOut = 0
    private var segments: [BusSegment] = []
    private let bus: MemoryBus
    private let scratch: SharedRegion
    /// The device may have frames; cleared when it says that it has none.
    var deviceIsReady = true
    var deviceIsGone = false
    /// There may be frames, and no pages or slots for them.
    private(set) var isStarved = false
    private let drops: DropCounter
    var statistics = FrontendQueueStatistics()

    private static let page = SharedRegion.pageSize

    /// - Parameter scratch: private memory, room for the largest frame.
    init(_ link: QueueLink, _ pages: QueuePages, _ device: any NetworkDeviceQueue, _ bus: MemoryBus, scratch: SharedRegion) {
        ring = FrontRing(initialising: link.transmitRing.region, TransmitRing())
        features = link.features
        pagesWanted = link.pages
        drops = link.transmitDrops
        abilities = link.features.abilities
        self.bus = bus
        references = pages.transmit.references
        address = bus.attach(pages.transmit.region)
        self.device = device
        self.scratch = scratch
        free = (0..<UInt16(QueuePages.count)).reversed()
        isUsed = Array(repeating: false, count: QueuePages.count)
    }

    /// Pages that the next frame may need. Somebody may set a larger MTU while the backend is there: a frame that was
    /// cut off shows it.
    private var pagesWanted: Int
    private static let mostPages = 17

    /// Takes back what the backend answered, then moves frames; how many of both.
    mutating func work() throws(FrontendFault) -> Int {
        var moved = try reap()
        isStarved = false
        var sent = 0
        let start = statistics.transmittedBytes
        while sent < TurnLimits.frames, statistics.transmittedBytes &- start < TurnLimits.bytes, deviceIsReady {
            guard free.count >= pagesWanted, ring.freeSlots >= UInt32(pagesWanted) + 1 else {
                isStarved = true
                break
            }
            guard receive(pagesWanted) else { break }
            sent += 1
        }
        moved += sent
        return moved
    }

    /// Whether the backend has answered; arms its bell if not. Only of use while starved: answers that nobody waits for
    /// can wait.
    mutating func armIfStarved() -> Bool {
        guard isStarved else { return false }
        // A quarter of what is out at once, rather than a ring for each.
        return ring.armAndRecheck(for: max(1, ring.outstanding / 4))
    }

    private mutating func reap() throws(FrontendFault) -> Int {
        var count = 0
        let before = free.count
        while let response = try next() {
            count += 1
            // Extra information's slots carry no id; only an answer that says so may be theirs, and there may be no
            // more of those (attacks.md C21).
            if response.status == .null {
                guard extrasOut > 0 else { throw FrontendFault("a null response, and no extra information is on the ring") }
                extrasOut -= 1
                continue
            }
            let id = Int(response.id)
            guard id < isUsed.count, isUsed[id] else {
                throw FrontendFault("a response to \(response.id), which is not on the ring (\(response.status))")
            }
            isUsed[id] = false
            free.append(response.id)
            if response.status != .okay {
                statistics.transmitErrors &+= 1
                drops.add(.refused)
            }
        }
        if count > 0 { free[before...].reverse() }
        return count
    }

    private mutating func next() throws(FrontendFault) -> TransmitResponse? {
        do throws(RingError) { return try ring.nextResponse() } catch { throw FrontendFault(error) }
    }

    @inline(__always)
    private func freePage(_ index: Int) -> Int { Int(free[free.count &- 1 &- index]) }

    /// Reads one frame into free pages and pushes it; false if the device had none.
    @inline(__always)
    private mutating func receive(_ wanted: Int) -> Bool {
        segments.removeAll(keepingCapacity: true)
        for index in 0..<wanted {
            guard let place = address.advanced(by: UInt64(freePage(index) * Self.page)) else { return false }
            if let last = segments.last, last.address.advanced(by: UInt64(last.byteCount)) == place {
                segments[segments.count - 1].byteCount += UInt32(Self.page)
            } else {
                segments.append(BusSegment(address: place, byteCount: UInt32(Self.page)))
            }
        }
        switch device.receive(into: segments.span) {
        case .nothing:
            deviceIsReady = false
            return false
        case .failed:
            deviceIsReady = false
            deviceIsGone = true
            return false
        case .spoilt:
            drop(.spoilt)
            if features.contains(.scatterGather) { pagesWanted = Self.mostPages }
        case .frame(let byteCount, let offload): push(byteCount, offload, wanted)
        }
        return true
    }

    private mutating func push(_ byteCount: Int, _ offload: FrameOffload, _ wanted: Int) {
        guard byteCount >= NetworkLimits.headerSize, byteCount <= min(NetworkLimits.maximumPacketSize, wanted * Self.page)
        else { return drop(byteCount < NetworkLimits.headerSize ? .spoilt : .tooLong) }
        var marks = FrameMarks()
        marks.isValidated = offload.isValidated
        if offload.checksum != nil || offload.segmentation != nil {
            guard let found = offload.marks(for: abilities, headers(byteCount)) else { return drop(.unfit) }
            if let unfinished = found.unfinished,
                !FrameBytes.complete(unfinished, segments.span, byteCount: byteCount, in: bus)
            {
                return drop(.unfit)
            }
            marks = found.marks
        }
        pushSlots(byteCount, marks)
        statistics.transmitted &+= 1
        statistics.transmittedBytes &+= UInt64(byteCount)
    }

    /// The headers of the frame in `segments`, however long they are.
    private func headers(_ byteCount: Int) -> FrameHeaders? {
        let first = min(byteCount, FrameHeaders.firstLook)
        var isCut = false
        var count = FrameBytes.copyHead(segments.span, first, in: bus, to: scratch, at: 0)
        let headers = FrameHeaders(in: scratch, at: 0, count: count, isCut: &isCut)
        if !isCut || first == byteCount { return headers }
        count = FrameBytes.copyHead(segments.span, byteCount, in: bus, to: scratch, at: 0)
        return FrameHeaders(in: scratch, at: 0, count: count)
    }

    private mutating func drop(_ reason: DropReason) {
        statistics.transmitDropped &+= 1
        drops.add(reason)
    }

    private mutating func pushSlots(_ byteCount: Int, _ marks: FrameMarks) {
        let count = (byteCount + Self.page - 1) / Self.page
        var flags: TransmitFlags = count > 1 ? .moreData : []
        if marks.isBlank { flags.insert([.checksumBlank, .dataValidated]) }
        if marks.isValidated { flags.insert(.dataValidated) }
        if marks.segmentation != nil { flags.insert(.extraInfo) }
        for index in 0..<count {
            let page = freePage(index)
            let size = index == 0 ? byteCount : min(Self.page, byteCount - index * Self.page)
            if index > 0 { flags = index + 1 < count ? .moreData : [] }
            // Room was seen before the frame was read.
            _ = ring.push(
                TransmitSlot(TransmitRequest(reference: references[page], flags: flags, id: UInt16(page), size: UInt16(size))))
            isUsed[page] = true
            if index == 0, let segmentation = marks.segmentation {
                _ = ring.push(TransmitSlot(ExtraInfo(segmenting: segmentation.type, size: segmentation.size)))
                extrasOut += 1
            }
        }
        free.removeLast(count)
    }
}
