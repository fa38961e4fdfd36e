// A queue's way from the frontend to the device: takes packets off the ring, finds or copies their bytes, sends them, answers. Owned by
// one reactor thread.

import DMA
import HostDevices
import Hypervisor
import LinuxSystem
import Packets
import SharedMemory
import SharedRing
import XenWire

/// The transmit ring and the packets under way.
struct TransmitCore: ~Copyable {
    var ring: BackRing<TransmitRing>
    let interface: InterfaceState
    let mappings: GrantMappings
    let hypervisor: any Hypervisor
    let frontend: DomainID
    var credit: Credit
    var fault: String?
    var isClosing = false
    /// Packets at the front of `outgoing` wait until the device has room.
    var isBlocked = false
    /// Microseconds to wait before a packet that was taken may be sent; nil: none waits.
    var creditWait: UInt64?
    var statistics = NetworkQueueStatistics()
    /// Nil while nobody traces.
    var trace: QueueTrace? { didSet { packet.keepsSlots = trace != nil } }
    /// What is taken is written down there; nil: nowhere.
    let journal: InterfaceJournal?

    /// The way to the device.
    var lane: DeviceLane
    private let dma: DMADevice
    /// First bytes of each packet of a batch: private, parsed, and sent instead of the original (B12).
    private let heads: PrivatePages
    /// Packets whose pages are not mapped, whole.
    private let bounce: PrivatePages
    private var bounceUsed = 0

    private var packet = TransmitPacket()
    /// `packet` is assembled and waits for credit.
    private var holdsPacket = false
    private var outgoing: [Outgoing] = []
    private var nextOutgoing = 0
    private var ids: [UInt16] = []
    /// Where the packets' bytes are.
    private var pieces: [PagePiece] = []
    private var copies: [GrantCopy] = []
    private var copyOwners: [Int32] = []

    /// Packets of one turn at most, so that one busy frontend leaves room for the others on this thread.
    static let batch = 64
    static let headSize = 256

    private struct Outgoing {
        var firstID: Int
        var idCount: Int
        var extraCount: Int
        var firstPiece: Int
        var pieceCount: Int
        var byteCount: Int
        var marks: FrameMarks
        /// Where the head is: in `heads`, or at the packet's start in `bounce`.
        var isCopied: Bool
        var head: Int
        var headCount: Int
        var status = NetworkStatus.okay
    }

    init(
        ring: consuming BackRing<TransmitRing>, interface: InterfaceState, mappings: GrantMappings, hypervisor: any Hypervisor,
        frontend: DomainID, device: any NetworkDeviceQueue, memory: QueueMemory, rate: CreditRate?,
        journal: InterfaceJournal? = nil, unanswered: [TransmitResponse] = []
    ) {
        self.journal = journal
        lane = DeviceLane(memory, device)
        dma = memory.dma
        heads = memory.heads
        bounce = memory.bounce
        self.ring = ring
        self.interface = interface
        self.mappings = mappings
        self.hypervisor = hypervisor
        self.frontend = frontend
        credit = Credit(rate, now: monotonicNanoseconds() / 1000)
        // What a predecessor took is lost.
        for response in unanswered { self.ring.push(response) }
    }

    /// Whether packets may be taken now.
    var isOpen: Bool { !isClosing && fault == nil && !isBlocked && creditWait == nil }

    /// Takes packets and sends them; how many were taken, and how many of those were refused.
    mutating func work() -> (taken: Int, rejected: Int) {
        var taken = 0
        var rejected = 0
        bounceUsed = 0
        do throws(RingError) {
            while taken < Self.batch, outgoing.count < Self.batch, isOpen, bounceUsed + 0x1_0000 <= bounce.region.byteCount {
                if !holdsPacket {
                    let index = ring.nextRequestIndex
                    guard let slot = try ring.nextRequest() else { break }
                    taken += 1
                    let isAccepted = try accept(slot)
                    journal?.took(packet, at: index)
                    guard isAccepted else {
                        rejected += 1
                        continue
                    }
                }
                if let wait = credit.take(packet.byteCount, now: monotonicNanoseconds() / 1000) {
                    holdsPacket = true
                    creditWait = wait
                    break
                }
                holdsPacket = false
                prepare()
            }
        } catch { fault = "\(error)" }
        if !copies.isEmpty { copyAll() }
        sendAll()
        return (taken, rejected)
    }

    /// Assembles the packet that begins with `slot`; false if there is nothing to send and its answer is prepared.
    private mutating func accept(_ slot: TransmitSlot) throws(RingError) -> Bool {
        let verdict = try packet.assemble(slot, from: &ring)
        if let trace { trace.assembled(packet, verdict, at: outgoing.count) }
        switch verdict {
        case .packet: return true
        case .drop: refuse(.error)
        case .multicast(let address, let isAdded): refuse(interface.setMulticast(address, isAdded: isAdded) ? .okay : .error)
        case .fatal(let rejection):
            refuse(.error)
            fault = rejection.description
        }
        return false
    }

    /// Answers the packet in hand without sending it, slot by slot (item 34), when it is its turn: answers keep the requests' order, which
    /// a successor of this process relies on.
    private mutating func refuse(_ status: NetworkStatus) {
        let firstID = ids.count
        for part in packet.parts { ids.append(part.id) }
        outgoing.append(
            Outgoing(
                firstID: firstID, idCount: packet.parts.count, extraCount: packet.extraCount, firstPiece: pieces.count,
                pieceCount: 0, byteCount: 0, marks: FrameMarks(), isCopied: false, head: 0, headCount: 0, status: status))
    }

    private mutating func answerExtras(_ count: Int) {
        for _ in 0..<count { ring.push(TransmitResponse(id: 0, status: .null)) }
    }

    // MARK: Preparing

    /// Finds where the packet's bytes are.
    private mutating func prepare() {
        var marks = FrameMarks()
        marks.isBlank = packet.flags.contains(.checksumBlank)
        marks.isValidated = packet.flags.contains(.dataValidated)
        marks.segmentation = packet.segmentation
        let firstID = ids.count
        for part in packet.parts { ids.append(part.id) }
        var entry = Outgoing(
            firstID: firstID, idCount: packet.parts.count, extraCount: packet.extraCount, firstPiece: pieces.count,
            pieceCount: 0, byteCount: packet.byteCount, marks: marks, isCopied: false, head: 0, headCount: 0)
        if !refer(&entry) { copy(&entry) }
        if let trace { trace.assembled(packet, .packet, at: outgoing.count) }
        outgoing.append(entry)
    }

    /// Names the packet's mapped pages; false if one is not mapped.
    private mutating func refer(_ entry: inout Outgoing) -> Bool {
        entry.headCount = min(packet.byteCount, FrameHeaders.mostBytes)
        entry.head = (outgoing.count % Self.batch) * Self.headSize
        var copied = 0
        pieces.append(heads.piece(entry.head, entry.headCount))
        for part in packet.parts {
            guard let page = mappings.page(part.reference, writable: false) else {
                pieces.removeLast(pieces.count - entry.firstPiece)
                return false
            }
            var rest = PagePiece(pfn: page, offset: UInt32(part.offset), byteCount: UInt32(part.byteCount))
            let skip = min(entry.headCount - copied, Int(rest.byteCount))
            if skip > 0 {
                // Copied before anything is decided on it; what faults here faults in the device, too.
                let head = PagePiece(pfn: page, offset: rest.offset, byteCount: UInt32(skip))
                _ = dma.read(head, into: heads.region, at: entry.head + copied)
                copied += skip
                rest.offset += UInt32(skip)
                rest.byteCount -= UInt32(skip)
                if rest.byteCount == 0 { continue }
            }
            pieces.append(rest)
        }
        entry.pieceCount = pieces.count - entry.firstPiece
        statistics.mappedFrames &+= 1
        return true
    }

    /// Lets the hypervisor copy the packet; no copy crosses a page on either side (B14).
    private mutating func copy(_ entry: inout Outgoing) {
        entry.isCopied = true
        entry.head = bounceUsed
        entry.headCount = min(packet.byteCount, FrameHeaders.mostBytes)
        let owner = Int32(outgoing.count)
        for part in packet.parts {
            var done = 0
            while done < Int(part.byteCount) {
                let room = SharedRegion.pageSize - bounceUsed % SharedRegion.pageSize
                let count = min(room, Int(part.byteCount) - done)
                copies.append(
                    GrantCopy(
                        source: .grant(part.reference, of: frontend, offset: Int(part.offset) + done),
                        destination: .local(bounce.region, offset: bounceUsed), byteCount: count))
                copyOwners.append(owner)
                bounceUsed += count
                done += count
            }
        }
        bounce.append(entry.head, packet.byteCount, to: &pieces)
        entry.pieceCount = pieces.count - entry.firstPiece
        statistics.copiedFrames &+= 1
    }

    /// A packet of which a part could not be had is answered with an error (B8).
    private mutating func copyAll() {
        do throws(HypervisorError) {
            let statuses = try hypervisor.copyGrants(copies)
            for index in copyOwners.indices where index >= statuses.count || statuses[index] != .okay {
                outgoing[Int(copyOwners[index])].status = .error
            }
        } catch {
            for owner in copyOwners { outgoing[Int(owner)].status = .error }
        }
        copies.removeAll(keepingCapacity: true)
        copyOwners.removeAll(keepingCapacity: true)
    }

    // MARK: Sending

    /// Sends what is prepared, in order, until the device is full.
    mutating func sendAll() {
        while nextOutgoing < outgoing.count {
            let entry = outgoing[nextOutgoing]
            var status = entry.status
            if status == .okay, entry.pieceCount > 0 {
                switch send(entry) {
                case .sent:
                    statistics.transmitted &+= 1
                    statistics.transmittedBytes &+= UInt64(entry.byteCount)
                case .full:
                    isBlocked = true
                    return
                case .failed:
                    statistics.transmitDropped &+= 1
                    status = .dropped
                case nil: status = .error
                }
            }
            if status == .error { statistics.transmitErrors &+= 1 }
            if let trace { tell(trace, entry, status) }
            ring.push(TransmitResponse(id: ids[entry.firstID], status: status))
            answerExtras(entry.extraCount)
            for index in 1..<max(1, entry.idCount) { ring.push(TransmitResponse(id: ids[entry.firstID + index], status: status)) }
            nextOutgoing += 1
        }
        isBlocked = false
        if nextOutgoing > 0 {
            outgoing.removeAll(keepingCapacity: true)
            ids.removeAll(keepingCapacity: true)
            pieces.removeAll(keepingCapacity: true)
            nextOutgoing = 0
        }
    }

    /// From now on the frontend may send so much.
    mutating func setRate(_ rate: CreditRate?) {
        credit = Credit(rate, now: monotonicNanoseconds() / 1000)
        creditWait = nil
    }

    private func tell(_ trace: QueueTrace, _ entry: Outgoing, _ status: NetworkStatus) {
        trace.answered(
            nextOutgoing, status, byteCount: entry.byteCount,
            head: (entry.isCopied ? bounce.region : heads.region, entry.head, entry.headCount), isWhole: entry.isCopied, mappings)
    }

    /// Sends one packet; nil if its marks do not fit it.
    private mutating func send(_ entry: Outgoing) -> FrameSent? {
        let range = entry.firstPiece..<entry.firstPiece + entry.pieceCount
        if let finished = entry.marks.finished { return lane.send(finished, pieces, range) }
        let region = entry.isCopied ? bounce.region : heads.region
        guard
            let offload = FrameOffload(
                entry.marks, in: region, head: entry.head, headCount: entry.headCount, byteCount: entry.byteCount)
        else { return nil }
        return lane.send(offload, pieces, range)
    }
}
