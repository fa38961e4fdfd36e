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
    /// First bytes of each frame in `pending`: private, parsed, and sent instead of the original.
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
    /// Frames for the device, oldest first, and where they lie.
    private var pending: [Pending] = []
    private var segments: [BusSegment] = []
    /// How those ended that waited in the device.
    private var ended: [FrameSent] = []
    /// The device has no room for what is pending.
    private(set) var isBlocked = false
    var statistics = FrontendQueueStatistics()

    /// A frame on its way to the device.
    private struct Pending {
        var offload: FrameOffload
        var segments: Range<Int>
        var byteCount: Int
        /// The device has it, and has not told how that ended.
        var isWaiting = false
    }

    private static let page = SharedRegion.pageSize
    /// Frames that are given to the device together.
    private static let mostPending = 32
    /// Bytes of private memory that it needs.
    static let headBytes = mostPending * FrameHeaders.mostBytes
    /// The longest chain that can be a frame; longer ones are dropped whole (C10).
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
                if pending.count == Self.mostPending { sendAll() }
            }
        } catch {
            // What came before the lie is as good as ever.
            sendAll()
            throw error
        }
        sendAll()
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
        let head = pending.count * FrameHeaders.mostBytes
        let headCount = FrameBytes.copyHead(parts.span, min(byteCount, FrameHeaders.mostBytes), in: bus, to: heads, at: head)
        guard let offload = FrameOffload(marks, in: heads, head: head, headCount: headCount, byteCount: byteCount),
            let place = headsAddress.advanced(by: UInt64(head))
        else { return drop() }
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
        pending.append(Pending(offload: offload, segments: first..<segments.count, byteCount: byteCount))
    }

    // MARK: The device

    /// Sends what is pending, in order, until the device is full.
    private mutating func sendAll() {
        isBlocked = false
        var done = 0
        while done < pending.count, !isBlocked {
            let given = give(from: done)
            ended.removeAll(keepingCapacity: true)
            device.flush(&ended)
            done = settle(done..<given)
        }
        pending.removeFirst(done)
        if pending.isEmpty { segments.removeAll(keepingCapacity: true) }
    }

    /// Gives the device as many as it takes; the first that it did not take. If that has no room though none waits, the device is full.
    private mutating func give(from first: Int) -> Int {
        var isFull = true
        for index in first..<pending.count {
            switch device.send(pending[index].offload, segments: segments.span.extracting(pending[index].segments)) {
            case .sent: count(pending[index])
            case .waiting:
                pending[index].isWaiting = true
                isFull = false
            case .full:
                isBlocked = isFull
                return index
            case .failed: drop()
            }
        }
        return pending.count
    }

    /// Counts those of `range` that waited; the first that there was no room for.
    private mutating func settle(_ range: Range<Int>) -> Int {
        var outcome = 0
        for index in range where pending[index].isWaiting {
            switch ended[outcome] {
            case .sent, .waiting: count(pending[index])
            case .failed: drop()
            case .full:
                for left in index..<range.upperBound { pending[left].isWaiting = false }
                isBlocked = true
                return index
            }
            outcome += 1
        }
        return range.upperBound
    }

    private mutating func count(_ frame: Pending) {
        statistics.received &+= 1
        statistics.receivedBytes &+= UInt64(frame.byteCount)
    }

    private mutating func drop() { statistics.receiveDropped &+= 1 }
}
