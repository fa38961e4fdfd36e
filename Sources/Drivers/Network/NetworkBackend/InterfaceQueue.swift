// One queue of an interface on its reactor: both directions, its doorbells, its device queue.

import DMA
import DeviceControl
import DeviceFaults
import DeviceTrace
import DriverRuntime
import Hypervisor
import LinuxSystem
import NetworkDevices
import Reactor
import RingFaults
import SharedRing
import Synchronization

/// Both directions of one queue. On its reactor's thread, but for `statistics`.
final class InterfaceQueue {
    /// Everything that one queue of a frontend's holds.
    struct Resources: ~Copyable {
        var transmit: GuestTransmit
        var receive: GuestReceive
        let rings: [any ContiguousGrants]
        let bell: any EventChannel
        let receiveBell: (any EventChannel)?
    }

    /// What completions of one queue are called: the queue's number times eight, and one of these.
    enum Tag {
        static let bell: UInt32 = 0
        static let bellPause: UInt32 = 1
        static let receiveBell: UInt32 = 2
        static let receiveBellPause: UInt32 = 3
        static let readable: UInt32 = 4
        static let writable: UInt32 = 5
        static let credit: UInt32 = 6
        static let expiry: UInt32 = 7
    }

    var transmit: GuestTransmit
    var receive: GuestReceive
    let mappings: GrantMappings
    private let time: any TimeSource
    private let memory: QueueMemory
    private var device: any NetworkDeviceQueue
    private let rings: [any ContiguousGrants]
    private var bell: Doorbell
    private var receiveBell: Doorbell?
    private let base: UInt32
    private let drainMicroseconds: UInt64
    /// Whether nothing is taken from the frontend, or given to it, until whoever looks after the device says so.
    var isHeld = false
    private var waitsReadable = false
    private var waitsWritable = false
    private var waitsCredit = false
    private var waitsExpiry = false
    private var pauseEnds: UInt64 = 0
    private var watch = MemoryWatch()
    private let snapshot = Mutex(NetworkQueueStatistics())

    /// A frontend that sends nothing but nonsense is listened to once a millisecond (protocol-rules.md 18).
    private static let nonsensePauseNanoseconds: UInt64 = 1_000_000

    init(_ context: QueueContext, _ resources: consuming Resources, drainMilliseconds: UInt64) {
        base = UInt32(context.index) * 8
        mappings = context.mappings
        time = context.time
        memory = context.memory
        device = context.device
        rings = resources.rings
        bell = Doorbell(resources.bell, bellTag: base + Tag.bell, pauseTag: base + Tag.bellPause)
        if let other = resources.receiveBell {
            receiveBell = Doorbell(other, bellTag: base + Tag.receiveBell, pauseTag: base + Tag.receiveBellPause)
        } else {
            receiveBell = nil
        }
        drainMicroseconds = drainMilliseconds * 1000
        transmit = resources.transmit
        receive = resources.receive
    }

    /// Counters as of the last turn; from any thread.
    var statistics: NetworkQueueStatistics { snapshot.withLock { $0 } }
    /// What the frontend did to a ring.
    var fault: String? { transmit.fault ?? receive.fault }

    /// One turn; true if there was work.
    func work() -> Bool {
        if isHeld { return false }
        var worked = false
        if transmit.isOpen, pauseEnds == 0 || time.nanoseconds >= pauseEnds {
            pauseEnds = 0
            let (taken, rejected) = transmit.work()
            if taken > 0 {
                worked = true
                bell.foundWork()
                // Twice as many as slots that an honest frontend's one mistake takes.
                if rejected == taken { pauseEnds = time.nanoseconds + Self.nonsensePauseNanoseconds }
            }
        }
        if receive.isOpen, receive.deviceIsReady || receive.holdsFrame || receive.hasStaged {
            let staged = receive.staged.count
            let moved = receive.work()
            // A frame that another queue's device gave, or that waited for pages, was delivered without one of this
            // turn: that is work, too.
            if moved > 0 || receive.staged.count < staged {
                worked = true
                foundReceiveWork()
            }
        }
        publish()
        if worked { updateSnapshot() }
        return worked
    }

    /// Tells `taps` of every packet from now on; with none, costs nothing any more.
    func trace(_ taps: [TraceTap]) {
        let trace = taps.isEmpty ? nil : QueueTrace(taps, queue: Int(base / 8))
        transmit.trace = trace
        receive.trace = trace
    }

    /// Does wrong from now on what is set, and no more what is not.
    func spoil(by book: FaultBook, _ reactor: Reactor) {
        let isHonest = book.isEmpty
        if let faulty = device as? FaultyFrames {
            if isHonest {
                use(faulty.real)
                faulty.retire()
                // What it had is with the device, which may have said so before.
                receive.deviceIsReady = true
            }
        } else if !isHonest,
            let faulty = try? FaultyFrames(
                device, book, bus: memory.dma.bus, on: reactor, ready: { [weak self] in self?.receive.deviceIsReady = true })
        {
            use(faulty)
        }
        let spoilers =
            isHonest
            ? nil
            : (
                transmit.ring.tamper ?? RingSpoiler(book, .transmitAnswers, toward: .back, time: time),
                receive.ring.tamper ?? RingSpoiler(book, .receiveAnswers, toward: .front, time: time)
            )
        transmit.ring.tamper = spoilers?.0
        receive.ring.tamper = spoilers?.1
    }

    private func use(_ other: any NetworkDeviceQueue) {
        device = other
        transmit.deviceQueue.device = other
        receive.deviceQueue.device = other
    }

    /// Takes a frame that another thread's device gave, or counts it as dropped.
    func take(_ frame: GuestReceive.Frame, _ bytes: [UInt8], isBroken: Bool) {
        if !isBroken, receive.accept(frame, bytes) { return }
        _ = receive.drop(.crowded)
        updateSnapshot()
    }

    private func foundReceiveWork() { if receiveBell == nil { bell.foundWork() } else { receiveBell?.foundWork() } }

    private func publish() {
        if transmit.ring.publish() {
            bell.channel.notify()
            transmit.statistics.notificationsSent &+= 1
        }
        if receive.ring.publish() {
            if receiveBell == nil { bell.channel.notify() } else { receiveBell?.channel.notify() }
            receive.statistics.notificationsSent &+= 1
        }
    }

    /// Arms whatever can bring work; true if there is work already.
    func prepareToSleep(_ reactor: Reactor, _ slot: ReactorSlot) -> Bool {
        if fault != nil || transmit.isClosing || isHeld { return false }
        if transmit.isOpen, !bell.isPaused {
            if pauseEnds > 0 {
                if !waitsCredit {
                    waitsCredit = true
                    reactor.after(microseconds: Self.nonsensePauseNanoseconds / 1000, slot, tag: base + Tag.credit)
                }
            } else if transmit.ring.armAndRecheck() {
                return true
            }
        }
        if let wait = transmit.creditWait, !waitsCredit {
            waitsCredit = true
            reactor.after(microseconds: wait, slot, tag: base + Tag.credit)
        }
        awaitDevice(reactor, slot)
        if receive.isStarved || receive.isStalled {
            // Pages are wanted: the frontend must ring when it posts some.
            if receive.ring.armAndRecheck() {
                foundReceiveWork()
                if receive.hasNewPages() { return true }
            }
        }
        if receive.isStarved {
            if !waitsExpiry {
                waitsExpiry = true
                reactor.after(microseconds: microsecondsToExpiry, slot, tag: base + Tag.expiry)
            }
        }
        memory.dma.settle()
        bell.arm(reactor, slot)
        receiveBell?.arm(reactor, slot)
        return false
    }

    /// Whether `takeTrouble` has something, or will in a moment.
    var hasTrouble: Bool { transmit.deviceQueue.trouble != nil || receive.deviceQueue.trouble != nil }

    /// What went wrong with memory since the last time, for the log; once a second at most.
    func takeTrouble() -> [String] {
        var lines = watch.lines(&transmit.deviceQueue.trouble, memory.dma.iommu, time)
        if lines.isEmpty { lines = watch.lines(&receive.deviceQueue.trouble, memory.dma.iommu, time) }
        if !lines.isEmpty { updateSnapshot() }
        return lines
    }

    /// What is left of the time that a frame may wait for pages.
    private var microsecondsToExpiry: UInt64 {
        let now = time.nanoseconds
        let waited = (now - min(receive.starvedSince, now)) / 1000
        return drainMicroseconds - min(waited, drainMicroseconds)
    }

    /// Waits for the device, where there is something to wait for.
    func awaitDevice(_ reactor: Reactor, _ slot: ReactorSlot) {
        guard fault == nil, !transmit.isClosing, !isHeld else { return }
        if transmit.isBlocked, !waitsWritable, let descriptor = device.roomDescriptor {
            waitsWritable = true
            reactor.whenWritable(descriptor, slot, tag: base + Tag.writable)
        }
        if !receive.isStarved, !receive.deviceIsReady, !receive.deviceIsGone, !waitsReadable, let descriptor = device.descriptor {
            waitsReadable = true
            reactor.whenReadable(descriptor, slot, tag: base + Tag.readable)
        }
    }

    /// A completion under one of this queue's tags.
    func completed(_ tag: UInt32) {
        if bell.completed(tag: tag) {
            transmit.statistics.notificationsTaken &+= 1
            if receiveBell == nil { receive.wake() }
            return
        }
        if receiveBell?.completed(tag: tag) == true {
            receive.wake()
            return
        }
        switch tag - base {
        case Tag.readable:
            waitsReadable = false
            receive.deviceIsReady = true
        case Tag.writable:
            waitsWritable = false
            transmit.sendAll()
            updateSnapshot()
        case Tag.credit:
            waitsCredit = false
            transmit.creditWait = nil
        case Tag.expiry:
            waitsExpiry = false
            // The timer may have been set for a frame that has found its pages since.
            guard receive.isStarved, microsecondsToExpiry == 0 else { return }
            receive.expire()
            updateSnapshot()
        default: break
        }
    }

    /// Where the rings are: for the frontend's receiving first, as virtio numbers them.
    var states: [XenRingState] {
        let fault = fault
        return [
            XenRingState(
                slots: Int(receive.ring.geometry.slotCount), words: RingWords(receive.ring.region),
                nextRequest: receive.ring.nextRequestIndex.rawValue,
                nextResponse: receive.ring.nextResponseIndex.rawValue, inWork: Int(receive.ring.unanswered), fault: fault,
                isHeld: isHeld),
            XenRingState(
                slots: Int(transmit.ring.geometry.slotCount), words: RingWords(transmit.ring.region),
                nextRequest: transmit.ring.nextRequestIndex.rawValue,
                nextResponse: transmit.ring.nextResponseIndex.rawValue, inWork: Int(transmit.ring.unanswered), fault: fault,
                isHeld: isHeld),
        ]
    }

    /// The rings as a person looks at them.
    var reports: [RingReport] {
        let name = "queue \(base / 8)"
        let states = states
        func doorbells(_ sent: UInt64, _ bell: borrowing Doorbell) -> [RingReport.Field] {
            [
                .init("doorbells-sent", sent), .init("doorbells-taken", bell.rings),
                .init("doorbells-for-nothing", bell.spurious),
            ]
        }
        let sent = (receive: receive.statistics.notificationsSent, transmit: transmit.statistics.notificationsSent)
        let ofTransmit = doorbells(sent.transmit, bell)
        // One bell for both rings is counted with the transmit ring.
        let ofReceive =
            switch receiveBell {
            case .some(let bell): doorbells(sent.receive, bell)
            case .none: [RingReport.Field("doorbells-sent", sent.receive)]
            }
        return [
            states[0].report("\(name) receive", doorbells: ofReceive, requests: []),
            states[1].report("\(name) transmit", doorbells: ofTransmit, requests: []),
        ]
    }

    /// Notifies the frontend, as if there were something for it.
    func notify() {
        bell.channel.notify()
        receiveBell?.channel.notify()
    }

    /// Wakes both sides of a frontend whose rings were taken over: it may have rung while nobody listened, and a
    /// predecessor may have died between its answers and its ring.
    func announceSuccession() {
        _ = transmit.ring.publish()
        bell.channel.notify()
        receiveBell?.channel.notify()
        // Its pages are mapped again, whether a frame comes soon or not.
        updateSnapshot()
    }

    /// Shows the counters as they are now; needed after whatever changed them outside a turn that found work.
    func updateSnapshot() {
        var sum = transmit.statistics
        let other = receive.statistics
        sum.received = other.received
        sum.receivedBytes = other.receivedBytes
        sum.receiveDropped = other.receiveDropped
        sum.receiveExpired = other.receiveExpired
        sum.mappedFrames &+= other.mappedFrames
        sum.copiedFrames &+= other.copiedFrames
        sum.notificationsSent &+= other.notificationsSent
        sum.mappedPages = mappings.count
        sum.memory = DMACounters(memory.dma, unmappable: transmit.deviceQueue.unmappable &+ receive.deviceQueue.unmappable)
        let final = sum
        snapshot.withLock { $0 = final }
    }

    /// Gives everything back; what went wrong, if anything did. Nothing is in flight: the device moves frames inside
    /// its calls.
    func close() -> String? {
        transmit.isClosing = true
        receive.isClosing = true
        publish()
        mappings.removeAll()
        device.close()
        let leak = memory.close()
        updateSnapshot()
        bell.channel.close()
        receiveBell?.channel.close()
        for ring in rings { ring.unmap() }
        return leak
    }
}
