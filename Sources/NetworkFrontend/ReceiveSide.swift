// A queue's way from the backend to its device: pages are posted, filled by the backend, and their frames given to the device. Page n
// always stands in slot n of the ring, so there is nothing to keep track of. Owned by one reactor thread.

import DMA
import DriverSupport
import HostDevices
import Hypervisor
import Packets
import SharedMemory
import SharedRing
import XenWire

/// The receive ring and the pages on it.
struct ReceiveSide: ~Copyable {
    var ring: FrontRing<ReceiveRing>
    private let references: [GrantReference]
    private let address: BusAddress
    private let device: any NetworkDeviceQueue
    /// First bytes of the frame in hand: private, parsed, and sent instead of the original.
    private let scratch: SharedRegion
    private let scratchAddress: BusAddress
    /// Responses taken, and pages posted; modulo 2^32.
    private var taken: UInt32 = 0
    private var posted: UInt32 = 0
    /// Pages whose frames are done with.
    private var returned: UInt32 = 0
    private var segments: [BusSegment] = []
    /// Where the frame in hand lies, and its bytes.
    private var parts: [BusSegment] = []
    private var byteCount = 0
    private let bus: MemoryBus
    /// The device has no room for the frame in `segments`.
    private(set) var isBlocked = false
    private var blocked = FrameOffload()
    private var blockedBytes = 0
    var statistics = FrontendQueueStatistics()

    private static let page = SharedRegion.pageSize
    /// The longest chain that can be a frame; longer ones are dropped whole (C10).
    private static let mostSlots = 17

    /// - Parameter scratch: private memory, a page of it from `Self.page` on.
    init(_ link: QueueLink, _ pages: QueuePages, _ device: any NetworkDeviceQueue, _ bus: MemoryBus, scratch: SharedRegion) {
        ring = FrontRing(initialising: link.receiveRing.region, ReceiveRing())
        self.bus = bus
        references = pages.receive.references
        address = bus.attach(pages.receive.region)
        self.device = device
        self.scratch = scratch
        scratchAddress = bus.attach(scratch)
        returned = UInt32(QueuePages.count)
        post()
    }

    /// Moves frames; how many.
    mutating func work() throws(FrontendFault) -> Int {
        if isBlocked { return 0 }
        var moved = 0
        let start = statistics.receivedBytes
        while moved < TurnLimits.frames, statistics.receivedBytes &- start < TurnLimits.bytes, !isBlocked, let slot = try next() {
            moved += 1
            try take(slot)
        }
        post()
        return moved
    }

    /// The device has room again.
    mutating func retry() {
        guard isBlocked else { return }
        isBlocked = false
        send(blocked, blockedBytes)
        post()
    }

    /// Posts every page that is free.
    private mutating func post() {
        if isBlocked { return }
        returned = UInt32(QueuePages.count) &- (posted &- taken)
        while returned > 0 {
            let page = Int(posted % UInt32(QueuePages.count))
            guard ring.push(ReceiveRequest(id: UInt16(page), reference: references[page])) else { return }
            posted &+= 1
            returned &-= 1
        }
    }

    // MARK: Frames

    private mutating func next() throws(FrontendFault) -> ReceiveSlot? {
        do throws(RingError) { return try ring.nextResponse() } catch { throw FrontendFault(error) }
    }

    /// Takes the frame that begins with `first`, all of it, whatever is wrong with it.
    private mutating func take(_ first: ReceiveSlot) throws(FrontendFault) {
        parts.removeAll(keepingCapacity: true)
        byteCount = 0
        var marks = FrameMarks()
        var isSpoilt = false
        var response = first.response
        let flags = response.flags
        marks.isBlank = flags.contains(.checksumBlank)
        marks.isValidated = flags.contains(.dataValidated)
        accept(response, &isSpoilt)
        if flags.contains(.extraInfo) {
            var more = true
            var count = 0
            while more {
                guard let slot = try next() else { throw FrontendFault("a frame that goes on past what is published") }
                taken &+= 1
                count += 1
                let extra = slot.extra
                // Each type at most once: a chain that does not end is a lie.
                guard count <= ExtraType.allCases.count, extra.type != nil else {
                    throw FrontendFault("extra information of type \(extra.rawType) in place \(count)")
                }
                if extra.type == .segmentation {
                    if let type = SegmentationType(rawValue: extra.rawSegmentationType), extra.segmentSize > 0 {
                        marks.segmentation = (type, extra.segmentSize)
                    } else {
                        isSpoilt = true
                    }
                }
                more = extra.hasMore
            }
        }
        while response.flags.contains(.moreData) {
            guard let slot = try next() else { throw FrontendFault("a frame that goes on past what is published") }
            response = slot.response
            accept(response, &isSpoilt)
        }
        deliver(marks, isSpoilt, firstCount: Int(first.response.status))
    }

    /// Books one response: its page is the slot's, whatever it calls itself.
    private mutating func accept(_ response: ReceiveResponse, _ isSpoilt: inout Bool) {
        let page = Int(taken % UInt32(QueuePages.count))
        taken &+= 1
        let end = Int(response.offset) + Int(response.status)
        if response.status <= 0 || end > Self.page || Int(response.id) != page || parts.count == Self.mostSlots {
            isSpoilt = true
        } else if !isSpoilt, let place = address.advanced(by: UInt64(page * Self.page + Int(response.offset))) {
            parts.append(BusSegment(address: place, byteCount: UInt32(response.status)))
            byteCount += Int(response.status)
        }
    }

    private mutating func deliver(_ marks: FrameMarks, _ isSpoilt: Bool, firstCount: Int) {
        // A first slot shorter than an Ethernet header (C9).
        guard !isSpoilt, firstCount >= NetworkProtocol.headerSize, byteCount <= NetworkProtocol.maximumPacketSize else {
            return drop()
        }
        let headCount = FrameBytes.copyHead(
            parts.span, min(byteCount, FrameHeaders.mostBytes), in: bus, to: scratch, at: Self.page)
        guard let offload = FrameOffload(marks, in: scratch, head: Self.page, headCount: headCount, byteCount: byteCount) else {
            return drop()
        }
        segments.removeAll(keepingCapacity: true)
        if let head = scratchAddress.advanced(by: UInt64(Self.page)) {
            segments.append(BusSegment(address: head, byteCount: UInt32(headCount)))
        }
        var skip = headCount
        for part in parts {
            let start = min(skip, Int(part.byteCount))
            skip -= start
            let count = Int(part.byteCount) - start
            guard count > 0, let place = part.address.advanced(by: UInt64(start)) else { continue }
            if segments.count > 1, let last = segments.last, last.address.advanced(by: UInt64(last.byteCount)) == place {
                segments[segments.count - 1].byteCount += UInt32(count)
            } else {
                segments.append(BusSegment(address: place, byteCount: UInt32(count)))
            }
        }
        send(offload, byteCount)
    }

    private mutating func send(_ offload: FrameOffload, _ byteCount: Int) {
        switch device.send(offload, segments: segments.span) {
        case .sent:
            statistics.received &+= 1
            statistics.receivedBytes &+= UInt64(byteCount)
        case .full:
            isBlocked = true
            blocked = offload
            blockedBytes = byteCount
        case .failed: drop()
        }
    }

    private mutating func drop() { statistics.receiveDropped &+= 1 }
}
