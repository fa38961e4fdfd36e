// A ring that the driver receives by, on its reactor: wakes up, moves frames, waits for the device or for memory,
// stops. Everything here runs on the reactor's thread.

import LinuxSystem
import NetworkDevices
import Reactor
import VhostUser
import VirtioMemory
import VirtioRing

/// One ring from its start to its stop. What is called for each turn is overridden for each kind of ring (RingKinds).
class VirtioReceiveQueue<Ring: DeviceRing & ~Copyable>: ReactorClient, RunningNetworkRing, @unchecked Sendable {
    private let reactor: Reactor
    private let pair: PairDevice
    private var side: VirtioReceive<Ring>
    private let isPacked: Bool
    /// How long a frame may wait for the driver's memory.
    private let patience: UInt64
    var bells: RingBells
    private let report: @Sendable (String) -> Void
    private var slot: ReactorSlot?
    private var translations: RingTranslations
    private var waitsReadable = false
    private var waitsExpiry = false
    private var starvedSince: UInt64?
    private var hasReported = false

    private enum Tag {
        static var readable: UInt32 { 0 }
        static var expiry: UInt32 { 1 }
        static var unpark: UInt32 { 2 }
    }

    /// Begins to serve a ring; it is not enabled.
    /// - Parameters:
    ///   - mtu: bytes of payload that the network's frames have.
    ///   - patience: nanoseconds that a frame may wait for the driver's memory.
    ///   - report: gets a line when the ring breaks.
    /// - Throws: that the memory cannot be had.
    init(
        _ plan: VhostRingPlan, ring: consuming Ring, rules: VirtioFrameRules, memory: GuestMap, pair: PairDevice, mtu: Int,
        patience: UInt64, reactor: Reactor, report: @escaping @Sendable (String) -> Void
    ) throws(Errno) {
        guard let windows = GuestWindows(memory, on: pair.bus) else { throw .noMemory }
        self.reactor = reactor
        self.pair = pair
        self.patience = patience
        self.report = report
        isPacked = plan.areas.isPacked
        bells = RingBells(plan)
        translations = RingTranslations(plan, in: memory, on: reactor)
        side = try VirtioReceive(
            ring: ring, rules: rules, memory: windows, bus: pair.bus, mtu: mtu, translated: translations.memory)
        slot = reactor.attach(self)
        // Memory for frames is no news.
        side.ring.disarm()
    }

    var counts: VirtioFrameCounts { side.counts }

    func setEnabled(_ isEnabled: Bool) throws(Errno) {
        guard isEnabled != (side.device != nil) else { return }
        if isEnabled {
            side.use(try pair.open())
        } else {
            side.use(nil)
            pair.close()
        }
        waitAnew()
    }

    func replaceMemory(_ map: GuestMap) -> Bool {
        // Memory may be gone that it has chains of.
        defer { show() }
        return side.replaceMemory(map)
    }

    func translate(_ table: TranslationTable, _ takenBack: ClosedRange<UInt64>?) -> Bool {
        // It may have waited for memory because the memory that there was waited for this.
        side.wake()
        return translations.replace(table, takenBack)
    }

    func setKick(_ kick: Descriptor?) { bells.inbound.route(from: .init(kick), reactor, slot) }
    func setChannel(_ channel: VhostBackendChannel?) { translations.tell(by: channel) }

    func stop(leaving leaves: Bool) -> StoppedRing {
        let isOpen = side.device != nil
        var stopped = StoppedRing(base: side.ring.base(leaving: side.chainCount, isPacked: isPacked))
        if leaves { stopped.frame = side.leave() }
        side.close()
        if isOpen { pair.close() }
        show()
        if let slot { reactor.detach(slot) }
        slot = nil
        return stopped
    }

    /// A frame that waited with a predecessor.
    func take(_ left: [UInt8]) { side.take(left) }

    /// What was waited for belonged to another queue of the device.
    private func waitAnew() {
        if let slot { reactor.detach(slot) }
        slot = reactor.attach(self)
        bells.inbound.forget()
        translations.forget()
        (waitsReadable, waitsExpiry, starvedSince) = (false, false, nil)
    }

    // MARK: The reactor's calls

    func poll() -> Bool { turn() }

    /// One turn of the ring; true if there was work.
    final func turn() -> Bool {
        if translations.isParked { return false }
        if side.isStarved, side.ring.hasChains() { side.wake() }
        guard side.device != nil, side.isReady || side.held != nil, side.fault == nil else { return false }
        if side.isStarved, !side.isStalled, !side.ring.hasChains() { return false }
        let moved = side.work()
        if !side.isStarved {
            starvedSince = nil
        } else if moved > 0 || starvedSince == nil {
            starvedSince = reactor.time.nanoseconds
        }
        show()
        if side.isParked { park() }
        return moved > 0
    }

    func prepareToSpin() { awaitDevice() }

    func prepareToSleep() -> Bool {
        awaitDevice()
        guard side.device != nil, side.isStarved, side.fault == nil, !translations.isParked, let slot else { return false }
        if side.ring.armAndRecheck() {
            side.ring.disarm()
            side.wake()
            return true
        }
        bells.inbound.arm(reactor, slot)
        awaitExpiry(slot)
        return false
    }

    func completed(tag: UInt32, result: Int32) {
        if bells.inbound.completed(tag) {
            side.ring.disarm()
            return side.wake()
        }
        switch tag {
        case Tag.readable:
            waitsReadable = false
            side.isReady = true
        case Tag.unpark:
            translations.timeout()
            side.wake()
        default:
            waitsExpiry = false
            // The timer may have been set for a frame that has found its memory since.
            guard let starvedSince, reactor.time.nanoseconds &- starvedSince >= patience else { return }
            side.expire()
        }
    }

    // MARK: Turns

    @inline(never)
    private func park() {
        guard let slot else { return }
        translations.park(reactor, slot, tag: Tag.unpark)
    }

    private func awaitDevice() {
        guard !side.isReady, !waitsReadable, side.fault == nil, let slot, let descriptor = side.device?.descriptor else { return }
        waitsReadable = true
        reactor.whenReadable(descriptor, slot, tag: Tag.readable)
    }

    private func awaitExpiry(_ slot: ReactorSlot) {
        guard !waitsExpiry, !side.isStalled, let starvedSince else { return }
        waitsExpiry = true
        let waited = reactor.time.nanoseconds &- starvedSince
        reactor.after(microseconds: (patience - min(waited, patience)) / 1000, slot, tag: Tag.expiry)
    }

    /// Shows the driver what is answered, and says once that the ring is broken.
    private func show() {
        if side.ring.publish() { bells.ring() }
        guard let fault = side.fault, !hasReported else { return }
        hasReported = true
        bells.tellError()
        report(fault)
    }
}
