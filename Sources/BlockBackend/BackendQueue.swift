// A queue on its reactor: wakes up, lets the core work, arms the doorbell, closes down. Everything here runs on the reactor's thread.

import DMA
import DriverSupport
import Glibc
import HostDevices
import Hypervisor
import LinuxSystem
import Reactor
import SharedMemory
import SharedRing
import Synchronization
import XenWire

/// What a queue tells the control thread.
enum QueueReport: Sendable {
    /// The frontend broke the ring; the queue takes nothing more from it.
    case broken(String)
    /// A grant could not be mapped because of a limit here, and its request failed. Said once.
    case shortage(String)
    /// The disk refused an operation that was offered.
    case lostFlush
    case lostDiscard
    /// Something went wrong with memory: a line for the log.
    case trouble(String)
    /// Everything that was mapped is unmapped; the queue is no more.
    case closed
}

/// One backend queue, from connection to disconnection.
final class BackendQueue: ReactorClient, BlockQueueOwner, @unchecked Sendable {
    private let reactor: Reactor
    private let channel: any EventChannel
    private let rings: any ContiguousGrants
    private let report: @Sendable (QueueReport) -> Void
    private var core: QueueCore
    private let owner: OwnerProxy
    private var slot: ReactorSlot?
    private var isArmed = false
    private var isPaused = false
    private var hasRung = false
    private var hasTakenSinceArmed = true
    private var hasReportedFault = false
    private var hasReportedShortage = false
    private var throttle = LateEOI()
    private let snapshot = Mutex(BackendQueueStatistics())
    private var watch = MemoryWatch()

    private enum Tag {
        static let doorbell: UInt32 = 0
        static let pauseOver: UInt32 = 1
    }

    /// A frontend that sends nothing but nonsense is listened to once a millisecond (pv-protocols item 18).
    private static let nonsensePauseMicroseconds: UInt64 = 1000

    /// Opens the disk for this queue and starts. On the reactor's thread.
    init(
        reactor: Reactor, channel: any EventChannel, rings: any ContiguousGrants, abi: BlockABI,
        device: any BlockDevice,
        validator: BlockRequestValidator, persistentGrants: Int?, dma: DMADevice,
        frontend: DomainID,
        hypervisor: any Hypervisor, start: QueueStart = .fresh(journal: nil),
        report: @escaping @Sendable (QueueReport) -> Void
    ) throws(Errno) {
        self.reactor = reactor
        self.channel = channel
        self.rings = rings
        self.report = report
        let ring: JournaledRing
        let isResumed: Bool
        switch start {
        case .fresh(let memory):
            ring = JournaledRing(attaching: rings.region, abi, journal: memory)
            isResumed = false
        case .resumed(let memory, let recovery):
            do throws(RingError) {
                ring = try JournaledRing(resuming: rings.region, abi, journal: memory, recovery)
            } catch { throw Errno(EPROTO) }
            isResumed = true
        }
        let proxy = OwnerProxy()
        let disk = try device.openQueue(on: reactor, bus: dma.bus, depth: Int(ring.geometry.slotCount), owner: proxy)
        core = QueueCore(
            ring: ring, validator: validator, persistentGrants: persistentGrants, frontend: frontend,
            hypervisor: hypervisor, dma: dma, disk: disk)
        owner = proxy
        proxy.queue = self
        slot = reactor.attach(self)
        // The predecessor may have died between showing a response and ringing for it.
        if isResumed { channel.notify() }
    }

    /// Stops taking requests; what is in work ends first, then everything is given back and `closed` is reported.
    func close() {
        core.isClosing = true
        closeIfIdle()
    }

    /// The disk has another size now.
    func resize(sectors: UInt64) { core.validator.resize(to: sectors) }

    /// Counters as of the last turn; from any thread, also while the queue closes (XSA-528).
    var statistics: BackendQueueStatistics { snapshot.withLock { $0 } }

    // MARK: The reactor's calls

    func poll() -> Bool {
        var worked = false
        if !isPaused && core.hasWork() {
            let (taken, rejected) = core.takeRequests()
            worked = taken > 0
            if taken > 0 { hasTakenSinceArmed = true }
            if taken > 0 && rejected == taken { pause() }
        }
        return finishTurn() || worked
    }

    func prepareToSleep() -> Bool {
        if core.isStalled { return !isPaused && core.hasFreed }
        guard core.isOpen, !isPaused else { return false }
        if core.ring.armAndRecheck() { return true }
        core.dma.settle()
        armDoorbell()
        return false
    }

    func completed(tag: UInt32, result: Int32) {
        if tag == Tag.pauseOver {
            isPaused = false
            // What rang meanwhile belongs to the work that is found now: noticed later, it would look as if it had rung for nothing.
            takeRing()
            return
        }
        isArmed = false
        takeRing()
        hasRung = true
    }

    private func takeRing() {
        if channel.acknowledge() {
            core.statistics.notificationsTaken &+= 1
            hasRung = true
        }
        channel.unmask()
    }

    func deviceCompleted(tag: UInt32, result: DeviceResult) { core.ended(Int32(tag), result) }

    // MARK: Turns

    /// Shows answers, reports faults, closes when due; true if something was answered.
    private func finishTurn() -> Bool {
        let before = core.ring.counters
        if core.publish() { channel.notify() }
        let worked = core.ring.counters != before
        if let fault = core.fault, !hasReportedFault {
            hasReportedFault = true
            report(.broken(fault))
        }
        if let shortage = core.shortage, !hasReportedShortage {
            hasReportedShortage = true
            report(.shortage(shortage))
        }
        if core.lostFlush {
            core.lostFlush = false
            report(.lostFlush)
        }
        if core.lostDiscard {
            core.lostDiscard = false
            report(.lostDiscard)
        }
        if worked { updateSnapshot() }
        // Each turn comes by here, and nearly none has anything to tell.
        if core.trouble != nil || !core.isDirect {
            for line in watch.lines(&core.trouble, core.dma.iommu) { report(.trouble(line)) }
        }
        if core.isClosing { closeIfIdle() }
        return worked
    }

    private func updateSnapshot() {
        core.statistics.persistentGrants = core.grants.count
        core.statistics.evictions = core.grants.evictions
        let counted = core.statistics.memory
        core.statistics.memory = DMACounters(core.dma, unmappable: counted.unmappable, unmapFailures: counted.unmapFailures)
        let statistics = core.statistics
        snapshot.withLock { $0 = statistics }
    }

    private func pause() {
        guard let slot else { return }
        isPaused = true
        reactor.after(microseconds: Self.nonsensePauseMicroseconds, slot, tag: Tag.pauseOver)
    }

    /// Waits for the doorbell; later than at once if rings keep bringing nothing, so that a storm costs little (XSA-391).
    private func armDoorbell() {
        guard let slot, !isArmed else { return }
        if hasRung {
            hasRung = false
            // Work that came before the doorbell was seen counts for it, too.
            if !hasTakenSinceArmed { core.statistics.spurious &+= 1 }
            let delay = throttle.handled(foundWork: hasTakenSinceArmed)
            if delay > 0 {
                hasTakenSinceArmed = false
                isPaused = true
                reactor.after(microseconds: delay, slot, tag: Tag.pauseOver)
                return
            }
        }
        isArmed = true
        hasTakenSinceArmed = false
        reactor.whenReadable(channel.descriptor, slot, tag: Tag.doorbell)
    }

    private func closeIfIdle() {
        guard core.inWork == 0, let slot else { return }
        _ = core.publish()
        core.releaseEverything()
        do throws(DMAError) { try core.dma.close() } catch { report(.trouble("\(error)")) }
        updateSnapshot()
        core.disk.close()
        owner.queue = nil
        self.slot = nil
        reactor.detach(slot)
        channel.close()
        rings.unmap()
        report(.closed)
    }
}

/// Stands between the disk and its queue, because each needs the other to be made first. The cycle ends when the queue closes.
private final class OwnerProxy: BlockQueueOwner {
    var queue: BackendQueue?
    func deviceCompleted(tag: UInt32, result: DeviceResult) { queue?.deviceCompleted(tag: tag, result: result) }
}
