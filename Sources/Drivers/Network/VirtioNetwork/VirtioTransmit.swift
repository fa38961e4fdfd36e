// A ring that the driver sends by: chains become frames for the device, in order. Owned by the queue's thread.
//
// The device is given the driver's own memory. Nothing is decided on a frame's bytes here: its header is loaded once,
// and what it says is held against the frame's length.

import DMA
import LinuxSystem
import NetworkDevices
import Packets
import VirtioMemory
import VirtioRing
import VirtioWire

/// Frames on their way from the driver to the device.
struct VirtioTransmit<Ring: DeviceRing & ~Copyable>: ~Copyable {
    var ring: Ring
    let rules: VirtioFrameRules
    /// The way to the device; nil: the ring is not enabled.
    private(set) var device: (any NetworkDeviceQueue)?
    private(set) var counts = VirtioFrameCounts()
    private let bus: MemoryBus
    private var memory: GuestWindows
    /// What the driver's addresses mean, if it has an IOMMU: chains name the driver's own memory from their taking on.
    let translated: TranslatedMemory?
    /// The next chain waits for translations.
    var isParked = false
    private var outgoing = SendQueue<Outgoing>()
    /// Where the frames in `outgoing` are, one behind the other.
    private var segments: [BusSegment] = []
    private var chain = DescriptorChain()

    /// Frames that one turn takes at most.
    static var turn: Int { 64 }

    /// One chain until its answer.
    struct Outgoing {
        let ticket: ChainTicket
        let first: Int
        var count = 0
        var byteCount = 0
        var offload = FrameOffload()
        var fault: FrameFault?
    }

    init(
        ring: consuming Ring, rules: VirtioFrameRules, memory: consuming GuestWindows, bus: MemoryBus,
        translated: TranslatedMemory? = nil
    ) {
        self.translated = translated
        self.ring = ring
        self.rules = rules
        self.memory = memory
        self.bus = bus
    }

    /// The device has no room for frames that were taken.
    var isBlocked: Bool { outgoing.isBlocked }

    /// The driver's memory is another from now on; what was taken and not sent is lost with the old one.
    mutating func replaceMemory(_ map: GuestMap) -> Bool {
        guard var windows = GuestWindows(map, on: bus) else { return false }
        swap(&memory, &windows)
        windows.detach()
        translated?.replaceMap(map)
        return true
    }

    /// Sends through another queue; with none, what was taken and is not sent is discarded, and so is what comes.
    mutating func use(_ queue: (any NetworkDeviceQueue)?) {
        device = queue
        if queue == nil { sendAll() }
    }

    /// Takes frames and sends them; how many were taken, and how many of those made no sense.
    mutating func work() -> (taken: Int, rejected: Int) {
        var (taken, rejected) = (0, 0)
        isParked = false
        do throws(VirtqueueError) {
            while taken < Self.turn, !isBlocked,
                try translated == nil ? ring.take(into: &chain, from: memory.map) == .chain : takeTranslated()
            {
                taken += 1
                if !accept() { rejected += 1 }
            }
        } catch {
            // The ring says so for ever.
        }
        sendAll()
        return (taken, rejected)
    }

    /// The next chain of a driver with an IOMMU, if all that it names is known.
    @inline(never)
    private mutating func takeTranslated() throws(VirtqueueError) -> Bool {
        guard let translated else { return false }
        let taken = try ring.take(into: &chain, from: translated)
        isParked = taken == .later
        return taken == .chain
    }

    /// Puts the chain in hand into the queue; false if it makes no sense, and then it is only answered in its turn.
    private mutating func accept() -> Bool {
        var entry = Outgoing(ticket: chain.ticket, first: segments.count)
        do throws(FrameFault) { try describe(&entry) } catch {
            segments.removeLast(segments.count - entry.first)
            entry.fault = error
        }
        outgoing.append(entry)
        return entry.fault == nil || entry.fault == .notEnabled
    }

    @inline(__always)
    private mutating func describe(_ entry: inout Outgoing) throws(FrameFault) {
        guard device != nil else { throw .notEnabled }
        guard chain.writableBytes == 0 else { throw .writableMemory }
        guard chain.count <= VirtioFrameRules.mostPieces else { throw .tooManyPieces }
        var header = NetworkHeader()
        guard chain.load(&header, from: memory.map) == .here else { throw .noHeader }
        entry.byteCount = Int(clamping: chain.readableBytes &- UInt64(NetworkHeader.byteCount))
        entry.offload = try rules.offload(of: header, byteCount: entry.byteCount)
        var skip = UInt32(NetworkHeader.byteCount)
        for index in 0..<chain.count {
            let run = chain[index]
            guard skip < run.byteCount else {
                skip &-= run.byteCount
                continue
            }
            let rest = GuestRun(address: run.address &+ UInt64(skip), byteCount: run.byteCount &- skip)
            // Memory that goes on behind the end of a region: as many more pieces as there are regions.
            guard memory.append(rest, to: &segments) else { throw .noHeader }
            skip = 0
        }
        entry.count = segments.count - entry.first
    }

    /// Sends what was taken, in order, until the device is full, and answers what it is done with.
    mutating func sendAll() {
        // Taken out for the call: what sends and answers is this struct.
        var queue = SendQueue<Outgoing>()
        swap(&queue, &outgoing)
        queue.sendAll(through: &self)
        swap(&queue, &outgoing)
        if outgoing.isEmpty { segments.removeAll(keepingCapacity: true) }
    }

    /// Leaves what was taken and not sent in the ring, for whoever goes on with it: no device has had any of it.
    mutating func leave() {
        outgoing = SendQueue()
        segments.removeAll(keepingCapacity: true)
    }

    /// Nobody uses the ring any more.
    mutating func close() {
        use(nil)
        _ = replaceMemory(GuestMap())
    }
}

extension VirtioTransmit: FrameSender where Ring: ~Copyable {
    @inline(__always)
    mutating func send(_ entry: borrowing Outgoing) -> FrameSent? {
        guard entry.fault == nil, let device else { return nil }
        return device.send(entry.offload, segments: segments.span.extracting(entry.first..<entry.first + entry.count))
    }

    @inline(never)
    private func release(_ ticket: ChainTicket) { translated?.release(ticket) }

    mutating func flush(_ ended: inout [FrameSent]) { device?.flush(&ended) }

    @inline(__always)
    mutating func settle(_ entry: borrowing Outgoing, at place: Int, _ outcome: FrameSent?) {
        switch outcome {
        case .failed(let error): counts[error == .networkDown ? .noCarrier : .device] &+= 1
        // It made no sense, or lost its device while it waited.
        case nil: counts[entry.fault ?? .notEnabled] &+= 1
        default:
            counts.sent &+= 1
            counts.sentBytes &+= UInt64(entry.byteCount)
        }
        if translated != nil { release(entry.ticket) }
        ring.put(entry.ticket, written: 0)
    }
}
