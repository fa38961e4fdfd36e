// A queue's way from the frontend to the device: takes packets off the ring, finds or copies their bytes, sends them,
// answers. Owned by one reactor thread.

import DMA
import DriverRuntime
import Hypervisor
import LinuxSystem
import NetworkDevices
import NetworkProtocol
import SharedMemory
import SharedRing
import XenTypes

/// The transmit ring and the packets under way.
struct GuestTransmit: ~Copyable {
    var ring: BackRing<TransmitRing>
    let interface: InterfaceState
    let mappings: GrantMappings
    let hypervisor: any Hypervisor
    let time: any TimeSource
    let frontend: DomainID
    let credit: SharedCredit
    var fault: String?
    var isClosing = false
    /// Microseconds to wait before a packet that was taken may be sent; nil: none waits.
    var creditWait: UInt64?
    var statistics = NetworkQueueStatistics()
    /// Nil while nobody traces.
    var trace: QueueTrace? { didSet { packet.keepsSlots = trace != nil } }
    /// What is taken is written down there; nil: nowhere.
    let journal: InterfaceJournal?

    /// The way to the device.
    var deviceQueue: MappedDeviceQueue
    let dma: DMADevice
    /// First bytes of each packet of a batch: private, parsed, and sent instead of the original (attacks.md B12).
    let heads: PrivatePages
    /// Packets whose pages are not mapped, whole.
    let bounce: PrivatePages
    var bounceUsed = 0

    var packet = TransmitPacket()
    /// `packet` is assembled and waits for credit.
    var holdsPacket = false
    /// Packets for the device, and what only has to be answered when it is its turn.
    var outgoing = SendQueue<Outgoing>()
    var ids: [UInt16] = []
    /// Where the packets' bytes are.
    var pieces: [PagePiece] = []
    var copies: [GrantCopy] = []
    var copyOwners: [Int32] = []

    static let headSize = 256

    struct Outgoing {
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

    /// - Parameter unanswered: what a predecessor took, which is lost.
    init(_ ring: consuming BackRing<TransmitRing>, _ queue: QueueContext, unanswered: [TransmitResponse] = []) {
        journal = queue.journal
        deviceQueue = MappedDeviceQueue(queue.memory, queue.device)
        dma = queue.memory.dma
        heads = queue.memory.heads
        bounce = queue.memory.bounce
        self.ring = ring
        interface = queue.interface
        mappings = queue.mappings
        hypervisor = queue.hypervisor
        time = queue.time
        frontend = queue.frontend
        credit = queue.interface.credit
        for response in unanswered { self.ring.push(response) }
    }

    /// Whether packets may be taken now.
    var isOpen: Bool { !isClosing && fault == nil && !isBlocked && creditWait == nil }

    /// Takes packets and sends them; how many were taken, and how many of those were refused.
    mutating func work() -> (taken: Int, rejected: Int) {
        var taken = 0
        var rejected = 0
        var turnBytes: UInt64 = 0
        bounceUsed = 0
        do throws(RingError) {
            while taken < TurnLimits.frames, turnBytes < TurnLimits.bytes, outgoing.count < TurnLimits.frames, isOpen,
                bounceUsed + 0x1_0000 <= bounce.region.byteCount
            {
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
                if let wait = credit.take(packet.byteCount, now: time.nanoseconds / 1000) {
                    holdsPacket = true
                    creditWait = wait
                    break
                }
                holdsPacket = false
                turnBytes &+= UInt64(packet.byteCount)
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
        case .drop:
            interface.transmitDrops.add(.malformed)
            refuse(.error)
        case .multicast(let address, let isAdded): refuse(interface.setMulticast(address, isAdded: isAdded) ? .okay : .error)
        case .fatal(let rejection):
            interface.transmitDrops.add(.malformed)
            refuse(.error)
            fault = rejection.description
        }
        return false
    }

    /// Answers the packet in hand without sending it, slot by slot (protocol-rules.md 34), when it is its turn: answers
    /// keep the requests' order, which a successor of this process relies on.
    private mutating func refuse(_ status: NetworkStatus) {
        let firstID = ids.count
        for part in packet.parts { ids.append(part.id) }
        outgoing.append(
            Outgoing(
                firstID: firstID, idCount: packet.parts.count, extraCount: packet.extraCount, firstPiece: pieces.count,
                pieceCount: 0, byteCount: 0, marks: FrameMarks(), isCopied: false, head: 0, headCount: 0, status: status))
    }
}
