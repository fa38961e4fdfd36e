// An interface for vhost-user front ends: its rings start and stop on reactors as a session says. On the connection's
// thread, which waits for the reactors; what the rings share with nobody stays on theirs.

import DeviceControl
import DeviceState
import LinuxSystem
import NetworkDevices
import Reactor
import Synchronization
import VhostUser
import VirtioInterrupts
import VirtioRing
import VirtioWire

/// One network interface that front ends use, one after another, over any device.
public final class VirtioInterface: VhostDevice {
    private let device: any NetworkDevice
    private let name: String
    private let pairs: [Pair]
    private let patience: UInt64
    /// A row for each ring.
    private let interrupts: RingVectors
    private let log: @Sendable (String) -> Void
    private let left: @Sendable (VirtioFrameCounts) -> Void
    private let state = Mutex(State())

    /// Two rings, and the thread that serves both.
    private struct Pair {
        let reactor: Reactor
        let device: PairDevice
    }

    /// What a session has brought.
    private struct State {
        var rings: [Int: Running] = [:]
        var memory = GuestMap()
        var channel: VhostBackendChannel?
        /// Of rings that have stopped.
        var counts = VirtioFrameCounts()
        var hasCarrier = false
        /// The rings are stopped for a successor: who is at the device's other side sees no change.
        var isHeld = false
        /// Frames that waited for memory when their rings were stopped so, by the rings' numbers.
        var frames: [Int: [UInt8]] = [:]
    }

    private struct Running {
        let ring: any RunningNetworkRing
        /// For one that has to begin anew.
        var plan: VhostRingPlan
        var isEnabled: Bool
    }

    /// - Parameters:
    ///   - name: for messages.
    ///   - queues: pairs of rings that a driver may use, 1 to 128; fewer where the device has fewer.
    ///   - patienceMilliseconds: how long a frame may wait for the driver's memory.
    ///   - log: gets a line when something breaks; from any thread.
    ///   - left: gets what was done so far, when a front end is gone.
    public init(
        _ device: any NetworkDevice, name: String, on reactors: [Reactor], queues: Int, patienceMilliseconds: UInt64 = 10_000,
        log: @escaping @Sendable (String) -> Void, left: @escaping @Sendable (VirtioFrameCounts) -> Void = { _ in }
    ) {
        precondition(!reactors.isEmpty, "an interface needs a reactor")
        self.device = device
        self.name = name
        self.log = log
        self.left = left
        patience = patienceMilliseconds * 1_000_000
        let needsOne = device.needsOneThread
        pairs = (0..<max(1, min(queues, device.mostQueues, 128))).map { index in
            Pair(reactor: reactors[needsOne ? 0 : index % reactors.count], device: PairDevice(device))
        }
        interrupts = RingVectors(device: name, rings: 2 * pairs.count)
    }

    /// An interface.
    public var kind: DeviceState.Kind { .network }

    /// The same for every front end.
    public var offer: VhostOffer { VirtioNetworkOffer(pairs: pairs.count).offer }

    /// It is the front end's.
    public func configuration(from offset: Int, byteCount: Int) -> [UInt8] { [] }

    /// What it did so far, all front ends together. Waits for the rings' threads.
    public var counts: VirtioFrameCounts {
        let (running, before) = state.withLock { ($0.rings, $0.counts) }
        var sum = before
        for (number, ring) in running {
            let ring = ring.ring
            sum.add(pairs[number / 2].reactor.run { ring.counts })
        }
        return sum
    }

    /// Starts and stops rings, and waits for their threads.
    public func perform(_ task: VhostTask) throws(VhostRefusal) -> UInt32? {
        switch task {
        case .start(let ring, let plan): try start(ring, plan)
        case .stop(let ring):
            defer { showCarrier() }
            return stop(ring)
        // Nobody on the wire need notice.
        case .pause(let ring): return stop(ring)
        case .translations(let table, let takenBack): try translate(table, takenBack)
        case .broken(let ring, let reason): log("\(name): \(reason); ring \(ring) is not served")
        case .backendSocket(let socket):
            let channel = VhostBackendChannel(socket)
            state.withLock { $0.channel = channel }
            for ring in state.withLock({ Array($0.rings.keys) }) { with(ring) { $0.setChannel(channel) } }
        case .reset(let rings):
            for ring in rings { _ = stop(ring) }
            showCarrier()
        case .enable(let rings):
            for (ring, isEnabled) in rings { try setEnabled(ring, isEnabled) }
            showCarrier()
        case .memory(let memory, let stopping):
            for ring in stopping { _ = stop(ring) }
            try take(memory.guestMap)
            showCarrier()
        case .call(let ring, let call):
            interrupts.route(ring, to: call)
            state.withLock { $0.rings[ring]?.plan.call = call }
        case .kickBy(let ring, let kick):
            state.withLock { $0.rings[ring]?.plan.kick = kick }
            with(ring) { $0.setKick(kick) }
        case .error(let ring, let error): with(ring) { $0.bells.error = error }
        case .announce(let address): try announce(address)
        case .mtu(let mtu): try limit(mtu)
        case .writeConfiguration: throw VhostRefusal("\(name): its configuration is the front end's")
        // A ring is looked at in every turn of its thread, and to be called wakes that.
        case .kick(let ring): with(ring) { _ in }
        // A log is not offered.
        case .status, .readConfiguration, .log: break
        // The connection does it.
        case .moveState, .checkState: break
        }
        return nil
    }

    /// Nothing changes by itself but what a driver does to its descriptors.
    public func idle() { for fault in interrupts.takeFaults() { log(fault) } }

    /// Has the driver look at its rings, for what had been shown there may not have been told; what a predecessor has
    /// left open for rings that do not run is let go.
    public func resumed() {
        for ring in state.withLock({ Array($0.rings.keys) }) { with(ring) { $0.bells.ring() } }
        endHold()
        device.settle()
        showCarrier()
    }

    /// Keeps the device's queues open, and its carrier as it is, while the rings are stopped.
    public func hold() {
        state.withLock { $0.isHeld = true }
        for pair in pairs { pair.reactor.run { pair.device.hold() } }
    }

    /// Lets the memory go.
    public func putBy() { state.withLock { $0.memory = GuestMap() } }

    /// What the interface is, and what it did.
    public var attributes: [DeviceState.Attribute] {
        let counts = counts
        let counters = [
            ("sent", counts.sent), ("sent-bytes", counts.sentBytes), ("received", counts.received),
            ("received-bytes", counts.receivedBytes), ("dropped", counts.dropped),
        ]
        return [DevicePropertyKey.model.attribute(device.name), DevicePropertyKey.mtu.attribute(UInt64(device.mtu))]
            + counters.enumerated().map { DevicePropertyKey.counter($1.0, $1.1, place: $0) }
    }

    /// A frame moves within one turn.
    public func cancel() throws(VhostRefusal) { throw VhostRefusal("an interface has nothing in work between two turns") }
    /// Counts of them begin anew, too.
    public func restoreSignals() { interrupts.restoreTrust() }
    /// What a driver sent is on its way.
    public func flush() throws(VhostRefusal) { throw VhostRefusal("an interface keeps nothing that could be flushed") }

    /// Stops every ring, and lets the memory go.
    public func disconnected() {
        endHold()
        for ring in state.withLock({ $0.rings.keys.sorted() }) { _ = stop(ring) }
        device.settle()
        showCarrier()
        state.withLock { ($0.memory, $0.channel) = (GuestMap(), nil) }
        left(counts)
    }

    private func endHold() {
        state.withLock { state in
            state.isHeld = false
            state.frames = [:]
        }
        for pair in pairs { pair.reactor.run { pair.device.release() } }
    }

    // MARK: What a successor is told

    /// The frames that waited when the rings were stopped. A successor that does not know of them loses them.
    public var handedOn: [DeviceState.Attribute] {
        state.withLock(\.frames).sorted { $0.key < $1.key }.map { ring, frame in
            .init(.network, VhostHandover.waitingFrame, index: UInt32(ring), isRequired: false, frame)
        }
    }

    /// What a predecessor left of its rings, before they start here.
    public func take(_ attributes: [DeviceState.Attribute]) {
        state.withLock { state in
            // The carrier is as the predecessor had it until all rings are known.
            (state.isHeld, state.hasCarrier) = (true, true)
            for attribute in attributes where attribute.group == DeviceState.Group.network.rawValue {
                state.frames[Int(attribute.index)] = attribute.bytes
            }
        }
    }

    // MARK: Rings

    private func start(_ number: Int, _ plan: VhostRingPlan) throws(VhostRefusal) {
        // Older drivers have another header, in the processor's own order of bytes.
        guard plan.features.contains(.version1) else { throw VhostRefusal("\(name): a driver of before virtio 1.0") }
        let (pair, (memory, channel)) = (pairs[number / 2], state.withLock { ($0.memory, $0.channel) })
        let rules = VirtioFrameRules(plan.features)
        let (name, log, mtu, patience) = (name, log, device.mtu, patience)
        do throws(Errno) { try device.setOffloads(rules.given) } catch { throw VhostRefusal("\(name): \(error)") }
        interrupts.route(number, to: plan.call)
        let interrupt = interrupts.line(number)
        let frame = state.withLock { $0.frames.removeValue(forKey: number) }
        let outcome: Result<(ring: any RunningNetworkRing, failure: Errno?), VhostRefusal> = pair.reactor.run {
            do {
                let report: @Sendable (String) -> Void = { log("\(name): ring \(number): \($0)") }
                let ring = try Self.make(number, plan, memory, rules, pair, mtu, patience, report)
                ring.bells.interrupt = interrupt
                ring.setChannel(channel)
                if let frame { ring.take(frame) }
                // Before its first turn: a ring that is not enabled throws away what the driver sends.
                do throws(Errno) { if plan.isEnabled { try ring.setEnabled(true) } } catch { return .success((ring, error)) }
                return .success((ring, nil))
            } catch { return .failure(VhostRefusal("\(name): \(error)")) }
        }
        if case .failure = outcome { interrupts.silence(number) }
        let (ring, failure) = try outcome.get()
        state.withLock { $0.rings[number] = Running(ring: ring, plan: plan, isEnabled: plan.isEnabled && failure == nil) }
        if let failure { throw VhostRefusal("\(name): queue \(number / 2): \(failure)") }
        if plan.isEnabled { showCarrier() }
    }

    /// A side for whichever kind of ring it is. On its reactor.
    private static func make(
        _ number: Int, _ plan: VhostRingPlan, _ memory: GuestMap, _ rules: VirtioFrameRules, _ pair: Pair, _ mtu: Int,
        _ patience: UInt64, _ report: @escaping @Sendable (String) -> Void
    ) throws -> any RunningNetworkRing {
        if plan.areas.isPacked {
            if let area = plan.inflight { return try makeKept(number, plan, area, memory, rules, pair, mtu, patience, report) }
            let ring = try PackedDeviceRing(attaching: plan.areas, features: plan.features, startingAt: plan.base)
            guard number % 2 == 0 else {
                return try PackedTransmitQueue(
                    plan, ring: ring, rules: rules, memory: memory, pair: pair.device, reactor: pair.reactor, report: report)
            }
            return try PackedReceiveQueue(
                plan, ring: ring, rules: rules, memory: memory, pair: pair.device, mtu: mtu, patience: patience,
                reactor: pair.reactor, report: report)
        }
        // All that a predecessor had shown, and not more: what it had taken beyond that is taken again.
        let shown = plan.areas.device.region.loadRelaxed16(plan.areas.device.offset + SplitLayout.index)
        let base = plan.recovers ? UInt16(littleEndian: shown) : UInt16(truncatingIfNeeded: plan.base)
        let ring = try SplitDeviceRing(attaching: plan.areas, features: plan.features, startingAt: base)
        guard number % 2 == 0 else {
            return try SplitTransmitQueue(
                plan, ring: ring, rules: rules, memory: memory, pair: pair.device, reactor: pair.reactor, report: report)
        }
        return try SplitReceiveQueue(
            plan, ring: ring, rules: rules, memory: memory, pair: pair.device, mtu: mtu, patience: patience,
            reactor: pair.reactor, report: report)
    }

    /// A side of a packed ring whose chains are kept for a successor: an answer is written over a chain before it is
    /// shown, and the entries that it skips look like new ones, so the ring itself does not tell what is left.
    private static func makeKept(
        _ number: Int, _ plan: VhostRingPlan, _ area: RingArea, _ memory: GuestMap, _ rules: VirtioFrameRules, _ pair: Pair,
        _ mtu: Int, _ patience: UInt64, _ report: @escaping @Sendable (String) -> Void
    ) throws -> any RunningNetworkRing {
        let start = PackedPosition(rawValue: UInt16(truncatingIfNeeded: plan.base))
        let recovery = try PackedInflightRecovery(
            area, ring: plan.areas.descriptors, size: plan.areas.size, startingAt: start)
        let ring = try PackedDeviceRing(
            resuming: plan.areas, features: plan.features, recovery, ledger: PackedInflightLedger(recovery))
        guard number % 2 == 0 else {
            return try KeptPackedTransmitQueue(
                plan, ring: ring, rules: rules, memory: memory, pair: pair.device, reactor: pair.reactor, report: report)
        }
        return try KeptPackedReceiveQueue(
            plan, ring: ring, rules: rules, memory: memory, pair: pair.device, mtu: mtu, patience: patience,
            reactor: pair.reactor, report: report)
    }

    private func setEnabled(_ number: Int, _ isEnabled: Bool) throws(VhostRefusal) {
        guard let ring = state.withLock({ $0.rings[number]?.ring }) else { return }
        let outcome: Result<Void, Errno> = pairs[number / 2].reactor.run {
            do throws(Errno) { return .success(try ring.setEnabled(isEnabled)) } catch { return .failure(error) }
        }
        do throws(Errno) { try outcome.get() } catch { throw VhostRefusal("\(name): queue \(number / 2): \(error)") }
        state.withLock { $0.rings[number]?.isEnabled = isEnabled }
    }

    /// Stops a ring; where to go on, nil if it does not run.
    private func stop(_ number: Int) -> UInt32? {
        guard let running = state.withLock({ $0.rings.removeValue(forKey: number) }) else { return nil }
        let ring = running.ring
        let isHeld = state.withLock(\.isHeld)
        let (stopped, counts) = pairs[number / 2].reactor.run { (ring.stop(leaving: isHeld), ring.counts) }
        interrupts.silence(number)
        state.withLock { state in
            state.counts.add(counts)
            if let frame = stopped.frame { state.frames[number] = frame }
        }
        return stopped.base
    }

    /// Gives every ring the driver's memory; one that cannot have it stops.
    private func take(_ map: GuestMap) throws(VhostRefusal) {
        let rings = state.withLock { state in
            state.memory = map
            return state.rings
        }
        for (number, running) in rings {
            let ring = running.ring
            if pairs[number / 2].reactor.run({ ring.replaceMemory(map) }) { continue }
            _ = stop(number)
            throw VhostRefusal("\(name): ring \(number) cannot have so large a region of memory")
        }
    }

    /// Gives every ring other translations. One that has taken memory of what was taken back, for frames to come or
    /// because the device has no room, begins anew where it is: nothing of it is in flight.
    private func translate(_ table: TranslationTable, _ takenBack: ClosedRange<UInt64>?) throws(VhostRefusal) {
        for (number, running) in state.withLock({ $0.rings }) {
            let ring = running.ring
            guard pairs[number / 2].reactor.run({ ring.translate(table, takenBack) }), let base = stop(number) else { continue }
            var plan = running.plan
            (plan.base, plan.translations, plan.isEnabled) = (base, table, running.isEnabled)
            try start(number, plan)
        }
    }

    private func with(_ number: Int, _ body: @escaping @Sendable (any RunningNetworkRing) -> Void) {
        guard let ring = state.withLock({ $0.rings[number]?.ring }) else { return }
        pairs[number / 2].reactor.run { body(ring) }
    }

    // MARK: The interface

    /// Whoever uses the device's other side sees whether there is a driver.
    private func showCarrier() {
        let change: Bool? = state.withLock { state in
            let has = state.rings.values.contains(where: \.isEnabled)
            guard !state.isHeld, has != state.hasCarrier else { return nil }
            state.hasCarrier = has
            return has
        }
        guard let change else { return }
        do throws(Errno) { try device.setCarrier(change) } catch { if !device.isGone { log("\(name): its carrier: \(error)") } }
    }

    private func announce(_ address: MACAddress) throws(VhostRefusal) {
        let pair = pairs[0]
        let outcome: Result<Void, Errno> = pair.reactor.run {
            do throws(Errno) { return .success(try pair.device.announce(address)) } catch { return .failure(error) }
        }
        do throws(Errno) { try outcome.get() } catch { throw VhostRefusal("\(name): announcing \(address): \(error)") }
    }

    private func limit(_ mtu: UInt64) throws(VhostRefusal) {
        // What IPv4 needs, and what a frame can have.
        guard (68...65535).contains(mtu) else { throw VhostRefusal("\(name): no frame has an MTU of \(mtu)") }
        do throws(Errno) { _ = try device.limitMTU(to: Int(mtu)) } catch { throw VhostRefusal("\(name): mtu \(mtu): \(error)") }
    }
}
