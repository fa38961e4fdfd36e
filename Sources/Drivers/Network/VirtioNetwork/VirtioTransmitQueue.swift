// A ring that the driver sends by, on its reactor: wakes up, sends, arms the ring, stops. Everything here runs on the
// reactor's thread.

import LinuxSystem
import NetworkDevices
import Reactor
import VhostUser
import VirtioMemory
import VirtioRing

/// A ring of an interface that runs. On its reactor's thread.
protocol RunningNetworkRing: AnyObject, Sendable {
    /// Whom to tell of answers, and of a ring that makes no sense.
    var bells: RingBells { get set }
    /// The driver signals by this from now on; nil: by nothing. The ring is looked at in the same turn.
    func setKick(_ kick: Descriptor?)
    /// What it did so far.
    var counts: VirtioFrameCounts { get }
    /// Moves frames from now on, or discards what the driver sends and gives nothing.
    func setEnabled(_ isEnabled: Bool) throws(Errno)
    /// The driver's memory; false: it cannot be had.
    func replaceMemory(_ map: GuestMap) -> Bool
    /// What the driver's IO addresses are from now on; true: it has taken some of these, and is to begin anew.
    func translate(_ table: TranslationTable, _ takenBack: ClosedRange<UInt64>?) -> Bool
    /// The front end's socket for messages of ours.
    func setChannel(_ channel: VhostBackendChannel?)
    /// Ends; where to go on.
    /// - Parameter leaves: whether what was taken stays in the ring, and what waits with whoever goes on, instead of
    ///   being discarded.
    func stop(leaving leaves: Bool) -> StoppedRing
    /// A frame that `stop` of a predecessor's ring left.
    func take(_ left: [UInt8])
}

extension RunningNetworkRing {
    /// A ring that the driver sends by leaves none.
    func take(_ left: [UInt8]) {}
}

/// Where a ring has stopped.
struct StoppedRing: Sendable {
    /// As `DeviceRing.base` has it.
    let base: UInt32
    /// A frame that was on its way to the driver and found no memory: its header, then its bytes.
    var frame: [UInt8]?
}

extension DeviceRing where Self: ~Copyable {
    /// Where another end goes on that takes all again which was not answered. Of chains that are answered in the order
    /// in which they came those are the last: given back as if they had never been taken.
    func base(leaving count: Int, isPacked: Bool) -> UInt32 {
        guard !isPacked else { return (base >> 16) | (base & 0xFFFF_0000) }
        return UInt32(UInt16(truncatingIfNeeded: base) &- UInt16(truncatingIfNeeded: count))
    }
}

/// One ring from its start to its stop. What is called for each turn is overridden for each kind of ring (RingKinds).
class VirtioTransmitQueue<Ring: DeviceRing & ~Copyable>: ReactorClient, RunningNetworkRing, @unchecked Sendable {
    private let reactor: Reactor
    private let pair: PairDevice
    private var side: VirtioTransmit<Ring>
    private let isPacked: Bool
    var bells: RingBells
    private let report: @Sendable (String) -> Void
    private var slot: ReactorSlot?
    private var translations: RingTranslations
    private var waitsWritable = false
    private var isPaused = false
    private var hasReported = false

    private enum Tag {
        static var writable: UInt32 { 0 }
        static var pauseOver: UInt32 { 1 }
        static var unpark: UInt32 { 2 }
    }

    /// A driver that sends nothing but nonsense is listened to once a millisecond.
    private static var nonsensePauseMicroseconds: UInt64 { 1000 }

    /// Begins to serve a ring; it is not enabled.
    /// - Parameter report: gets a line when the ring breaks.
    /// - Throws: that the memory cannot be had.
    init(
        _ plan: VhostRingPlan, ring: consuming Ring, rules: VirtioFrameRules, memory: GuestMap, pair: PairDevice, reactor: Reactor,
        report: @escaping @Sendable (String) -> Void
    ) throws(Errno) {
        guard let windows = GuestWindows(memory, on: pair.bus) else { throw .noMemory }
        self.reactor = reactor
        self.pair = pair
        self.report = report
        isPacked = plan.areas.isPacked
        bells = RingBells(plan)
        translations = RingTranslations(plan, in: memory, on: reactor)
        side = VirtioTransmit(ring: ring, rules: rules, memory: windows, bus: pair.bus, translated: translations.memory)
        slot = reactor.attach(self)
    }

    var counts: VirtioFrameCounts { side.counts }

    func setEnabled(_ isEnabled: Bool) throws(Errno) {
        guard isEnabled != (side.device != nil) else { return }
        if isEnabled {
            side.use(try pair.open())
        } else {
            side.use(nil)
            show()
            pair.close()
        }
        waitAnew()
    }

    func replaceMemory(_ map: GuestMap) -> Bool { side.replaceMemory(map) }
    func translate(_ table: TranslationTable, _ takenBack: ClosedRange<UInt64>?) -> Bool { translations.replace(table, takenBack) }
    func setKick(_ kick: Descriptor?) { bells.inbound.route(from: .init(kick), reactor, slot) }
    func setChannel(_ channel: VhostBackendChannel?) { translations.tell(by: channel) }

    func stop(leaving leaves: Bool) -> StoppedRing {
        let isOpen = side.device != nil
        if leaves { side.leave() }
        side.close()
        if isOpen { pair.close() }
        show()
        if let slot { reactor.detach(slot) }
        slot = nil
        return StoppedRing(base: side.ring.base(leaving: side.ring.unanswered, isPacked: isPacked))
    }

    /// What was waited for belonged to another queue of the device.
    private func waitAnew() {
        if let slot { reactor.detach(slot) }
        slot = reactor.attach(self)
        bells.inbound.forget()
        translations.forget()
        (waitsWritable, isPaused) = (false, false)
    }

    // MARK: The reactor's calls

    func poll() -> Bool { turn() }

    /// One turn of the ring; true if there was work.
    final func turn() -> Bool {
        guard !isPaused, !translations.isParked, !side.isBlocked, side.ring.hasChains() else { return false }
        side.ring.disarm()
        let (taken, rejected) = side.work()
        show()
        if taken > 0 && rejected == taken { pause() }
        if side.isParked { park() }
        return taken > 0
    }

    func prepareToSpin() { awaitRoom() }

    func prepareToSleep() -> Bool {
        awaitRoom()
        guard !isPaused, !translations.isParked, !side.isBlocked, let slot else { return false }
        if side.ring.armAndRecheck() { return true }
        bells.inbound.arm(reactor, slot)
        return false
    }

    func completed(tag: UInt32, result: Int32) {
        if bells.inbound.completed(tag) { return }
        switch tag {
        case Tag.writable:
            waitsWritable = false
            side.sendAll()
            show()
        case Tag.unpark: translations.timeout()
        default: isPaused = false
        }
    }

    // MARK: Turns

    private func awaitRoom() {
        guard side.isBlocked, !waitsWritable, let slot, let descriptor = side.device?.roomDescriptor else { return }
        waitsWritable = true
        reactor.whenWritable(descriptor, slot, tag: Tag.writable)
    }

    @inline(never)
    private func park() {
        guard let slot else { return }
        translations.park(reactor, slot, tag: Tag.unpark)
    }

    private func pause() {
        guard let slot else { return }
        isPaused = true
        reactor.after(microseconds: Self.nonsensePauseMicroseconds, slot, tag: Tag.pauseOver)
    }

    /// Shows the driver what is answered, and says once that the ring is broken.
    private func show() {
        if side.ring.publish() { bells.ring() }
        guard let fault = side.ring.fault, !hasReported else { return }
        hasReported = true
        bells.tellError()
        report("\(fault)")
    }
}
