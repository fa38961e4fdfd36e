// A queue's way from the backend to its device: pages are posted, filled by the backend, and their frames given to the
// device. Page n always stands in slot n of the ring, so there is nothing to keep track of. Owned by one reactor
// thread.

import DMA
import DriverRuntime
import Hypervisor
import NetworkDevices
import NetworkProtocol
import Packets
import SharedMemory
import SharedRing
import XenTypes

/// The receive ring and the pages on it.
struct ReceiveSide: ~Copyable {
    var ring: FrontRing<ReceiveRing>
    private let references: [GrantReference]
    private let address: BusAddress
    private let device: any NetworkDeviceQueue
    /// First bytes of each frame in `outgoing`: private, parsed, and sent instead of the original.
    private let heads: SharedRegion
    private let headsAddress: BusAddress
    /// Responses taken, and pages posted; modulo 2^32.
    private var taken: UInt32 = 0
    private var posted: UInt32 = 0
    /// Pages whose frames are done with.
    private var returned: UInt32 = 0
    /// Where the frame in hand lies, and its bytes.
    private var parts: [BusSegment] = []
    private var byteCount = 0
    private let bus: MemoryBus
    /// Frames for the device, and where they lie.
    private var outgoing = SendQueue<Outgoing>()
    private var segments: [BusSegment] = []
    private let drops: DropCounter
    var statistics = FrontendQueueStatistics()

    /// A frame on its way to the device.
    struct Outgoing {
        var offload: FrameOffload
        var segments: Range<Int>
        var byteCount: Int
    }

    private static let page = SharedRegion.pageSize
    /// Frames that are given to the device together.
    private static let mostOutgoing = 32
    /// Behind the heads, room for as many frames whose headers are longer.
    private static let longHeads = SharedRegion.wholePages(mostOutgoing * FrameHeaders.firstLook)
    private static let longHead = 1 << 16
    /// Bytes of private memory that it needs.
    static let headBytes = longHeads + mostOutgoing * longHead
    /// The longest chain that can be a frame; longer ones are dropped whole (attacks.md C10).
    private static let mostSlots = 17

    /// - Parameter heads: `headBytes` of private memory.
    init(_ link: QueueLink, _ pages: QueuePages, _ device: any NetworkDeviceQueue, _ bus: MemoryBus, heads: SharedRegion) {
        ring = FrontRing(initialising: link.receiveRing.region, ReceiveRing())
        self.bus = bus
        references = pages.receive.references
        address = bus.attach(pages.receive.region)
        self.device = device
        self.heads = heads
        headsAddress = bus.attach(heads)
        drops = link.receiveDrops
        returned = UInt32(QueuePages.count)
        post()
    }

    /// Moves frames; how many.
    mutating func work() throws(FrontendFault) -> Int {
        if isBlocked { return 0 }
        var moved = 0
        var turnBytes: UInt64 = 0
        do throws(FrontendFault) {
            while moved < TurnLimits.frames, turnBytes < TurnLimits.bytes, !isBlocked, let slot = try next() {
                moved += 1
                try take(slot)
                turnBytes &+= UInt64(byteCount)
                if outgoing.count == Self.mostOutgoing { sendAll() }
            }
        } catch {
            // What came before the lie is as good as ever.
            sendAll()
            throw error
        }
        if !isBlocked { sendAll() }
        post()
        return moved
    }

    /// The device has room again.
    mutating func retry() {
        guard isBlocked else { return }
        sendAll()
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
        if flags.contains(.extraInfo) { marks.segmentation = try takeExtras(&isSpoilt) }
        while response.flags.contains(.moreData) {
            guard let slot = try next() else { throw FrontendFault("a frame that goes on past what is published") }
            response = slot.response
            accept(response, &isSpoilt)
        }
        deliver(marks, isSpoilt, firstCount: Int(first.response.status))
    }

    /// Takes the slots of extra information; how the frame is to be cut up, if they say so.
    private mutating func takeExtras(_ isSpoilt: inout Bool) throws(FrontendFault) -> (type: SegmentationType, size: UInt16)? {
        var chain = ExtraChain(takesRepeats: true)
        while chain.hasMore {
            guard let slot = try next() else { throw FrontendFault("a frame that goes on past what is published") }
            taken &+= 1
            switch chain.take(slot.extra) {
            case nil: break
            case .segmentSize, .segmentationType: isSpoilt = true
            case .unknownType(let type), .repeated(let type), .endless(let type):
                throw FrontendFault("extra information of type \(type) in place \(chain.count)")
            }
        }
        return chain.segmentation
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
        // A first slot shorter than an Ethernet header (attacks.md C9).
        guard !isSpoilt, firstCount >= NetworkLimits.headerSize, byteCount <= NetworkLimits.maximumPacketSize else {
            return drop(.malformed)
        }
        var head = outgoing.count * FrameHeaders.firstLook
        var headCount = FrameBytes.copyHead(parts.span, min(byteCount, FrameHeaders.firstLook), in: bus, to: heads, at: head)
        var found = FrameOffload(marks, in: heads, head: head, headCount: headCount, byteCount: byteCount)
        if found == nil, headCount < byteCount, FrameHeaders.reachBeyond(headCount, in: heads, at: head) {
            head = Self.longHeads + outgoing.count * Self.longHead
            headCount = FrameBytes.copyHead(parts.span, byteCount, in: bus, to: heads, at: head)
            found = FrameOffload(marks, in: heads, head: head, headCount: headCount, byteCount: byteCount)
        }
        guard let offload = found, let place = headsAddress.advanced(by: UInt64(head)) else { return drop(.unfit) }
        let first = segments.count
        segments.append(BusSegment(address: place, byteCount: UInt32(headCount)))
        var skip = headCount
        for part in parts {
            let start = min(skip, Int(part.byteCount))
            skip -= start
            let count = Int(part.byteCount) - start
            guard count > 0, let place = part.address.advanced(by: UInt64(start)) else { continue }
            if segments.count > first + 1, let last = segments.last, last.address.advanced(by: UInt64(last.byteCount)) == place {
                segments[segments.count - 1].byteCount += UInt32(count)
            } else {
                segments.append(BusSegment(address: place, byteCount: UInt32(count)))
            }
        }
        outgoing.append(Outgoing(offload: offload, segments: first..<segments.count, byteCount: byteCount))
    }

    private mutating func drop(_ reason: DropReason) {
        statistics.receiveDropped &+= 1
        drops.add(reason)
    }
}

// MARK: The device

extension ReceiveSide: FrameSender {
    /// The device has no room for the frames in `outgoing`.
    var isBlocked: Bool { outgoing.isBlocked }

    /// Sends what is there, in order, until the device is full.
    private mutating func sendAll() {
        // Taken out for the call: what sends and counts is this struct.
        var queue = SendQueue<Outgoing>()
        swap(&queue, &outgoing)
        queue.sendAll(through: &self)
        swap(&queue, &outgoing)
        if outgoing.isEmpty { segments.removeAll(keepingCapacity: true) }
    }

    mutating func send(_ frame: borrowing Outgoing) -> FrameSent? {
        device.send(frame.offload, segments: segments.span.extracting(frame.segments))
    }

    mutating func flush(_ ended: inout [FrameSent]) { device.flush(&ended) }

    mutating func settle(_ frame: borrowing Outgoing, at place: Int, _ outcome: FrameSent?) {
        if case .failed(let error) = outcome { return drop(DropReason(error)) }
        statistics.received &+= 1
        statistics.receivedBytes &+= UInt64(frame.byteCount)
    }
}
