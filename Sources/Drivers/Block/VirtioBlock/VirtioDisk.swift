// A disk for vhost-user front ends: its rings start and stop on reactors as a session says. On the connection's thread,
// which waits for the reactors; what the rings share with nobody stays on theirs.

import BlockDevices
import BlockModel
import DeviceState
import LinuxSystem
import Reactor
import Synchronization
import VhostUser
import VirtioInterrupts
import VirtioRing
import VirtioWire

/// One disk that front ends use, one after another.
public final class VirtioDisk: VhostDevice {
    private let disk: any BlockDevice
    private let reactors: [Reactor]
    private let shape: VirtioBlockOffer
    private let log: @Sendable (String) -> Void
    /// A row for each ring.
    private let interrupts: RingVectors
    private let state = Mutex(State())

    /// What a session has brought.
    private struct State {
        var rings: [Int: RunningRing] = [:]
        /// Those that wait for what they have in work.
        var stopping: [Int: RunningRing] = [:]
        var memory = GuestMap()
        var channel: VhostBackendChannel?
        /// Translations that were given to the rings without waiting.
        var given: UInt32 = 0
        /// What the front end knows of the disk's size.
        var geometry: BlockGeometry?
        /// What a predecessor's front end knew of it, until that is told if it is wrong.
        var knownBytes: UInt64?
    }

    private struct RunningRing {
        let reactor: Reactor
        let queue: any RunningBlockQueue
    }

    /// - Parameters:
    ///   - queues: that a driver may use, 1 to 256; fewer where the disk has fewer.
    ///   - identity: the disk's name for drivers, 20 bytes at most count.
    ///   - offersDiscard: whether drivers are told of discards, where the disk has them.
    ///   - log: gets a line when something breaks; from any thread.
    public init(
        _ disk: any BlockDevice, on reactors: [Reactor], queues: Int, identity: String, offersDiscard: Bool = true,
        log: @escaping @Sendable (String) -> Void
    ) {
        precondition(!reactors.isEmpty, "a disk needs a reactor")
        self.disk = disk
        self.reactors = reactors
        shape = VirtioBlockOffer(
            queues: max(1, min(queues, disk.queueLimit, 256)), identity: identity, offersDiscard: offersDiscard)
        self.log = log
        interrupts = RingVectors(device: disk.name, rings: shape.queues)
    }

    /// A disk.
    public var kind: DeviceState.Kind { .block }

    /// What the disk's geometry allows, as it is when a front end comes.
    public var offer: VhostOffer {
        VhostOffer(
            features: shape.features(disk.geometry),
            protocolFeatures: [
                .multipleQueues, .sharedLog, .replyAck, .backendRequests, .configuration, .inflightMemory, .resetDevice,
                .inBandNotifications, .memorySlots, .status, .inflightAtStop, .deviceState,
            ],
            rings: shape.queues, mostEntries: 1024)
    }

    /// Of the disk as it is now; the front end is told when that changes.
    public func configuration(from offset: Int, byteCount: Int) -> [UInt8] {
        let geometry = disk.geometry
        state.withLock { $0.geometry = geometry }
        return shape.configuration(geometry).prefix(from: UInt32(offset), count: UInt32(byteCount)) ?? []
    }

    /// Starts and stops rings, and waits for their threads.
    public func perform(_ task: VhostTask) throws(VhostRefusal) -> UInt32? {
        switch task {
        case .start(let ring, let plan): try start(ring, plan)
        case .stop(let ring): return stop(ring)
        case .pause(let ring): return stop(ring, isPausing: true)
        case .translations(let table, let takenBack): translate(table, takenBack)
        case .broken(let ring, let reason): log("\(disk.name): \(reason); ring \(ring) is not served")
        case .reset(let rings): for ring in rings { _ = stop(ring) }
        case .enable(let rings):
            for (ring, isEnabled) in rings { each([ring]) { $0.setEnabled(isEnabled) } }
        case .memory(let memory, let stopping):
            for ring in stopping { _ = stop(ring) }
            try take(memory.guestMap)
        case .call(let ring, let call):
            interrupts.route(ring, to: call)
            each([ring]) { $0.setCalled() }
        case .error(let ring, let error): each([ring]) { $0.setError(error) }
        case .log(let rings): for (ring, logging) in rings { each([ring]) { $0.setLogging(logging) } }
        case .kickBy(let ring, let kick): each([ring]) { $0.setKick(kick) }
        case .kick(let ring): each([ring]) { $0.kick() }
        case .backendSocket(let socket):
            let channel = VhostBackendChannel(socket)
            state.withLock { $0.channel = channel }
            each(nil) { $0.setChannel(channel) }
        case .writeConfiguration: throw VhostRefusal("a disk's configuration cannot be written")
        // The last two are not offered.
        case .status, .readConfiguration, .announce, .mtu: break
        // The connection does it.
        case .moveState, .checkState: break
        }
        return nil
    }

    /// Looks whether the disk has another size, and has the driver told.
    public func idle() {
        for fault in interrupts.takeFaults() { log(fault) }
        guard let geometry = try? disk.refreshGeometry() else { return }
        guard let known = state.withLock({ $0.geometry }) else { return tellWhatWasNotAsked(geometry) }
        guard geometry.byteCount != known.byteCount else { return }
        each(nil) { $0.resize(to: geometry.byteCount) }
        let isTold = state.withLock { state in
            state.geometry = geometry
            return state.channel?.configurationChanged() ?? false
        }
        log("\(disk.name): \(geometry.byteCount) bytes now\(isTold ? "" : "; the driver sees that when it starts anew")")
    }

    /// A front end that comes again after a kill does not ask for what it knows: how large the disk was then.
    private func tellWhatWasNotAsked(_ geometry: BlockGeometry) {
        guard state.withLock({ !$0.rings.isEmpty }) else { return }
        each(nil) { $0.resize(to: geometry.byteCount) }
        state.withLock { state in
            state.geometry = geometry
            _ = state.channel?.configurationChanged()
        }
    }

    /// Has the driver look at its rings, for what had been shown there may not have been told, and at the disk's size,
    /// if that has changed while nobody served it.
    public func resumed() {
        each(nil) { $0.ring() }
        let geometry = disk.geometry
        state.withLock { state in
            state.geometry = geometry
            if state.knownBytes != geometry.byteCount { _ = state.channel?.configurationChanged() }
            state.knownBytes = nil
        }
    }

    /// What the disk is, and what it was asked by the front end that uses it.
    public var attributes: [DeviceState.Attribute] {
        let asked = state.withLock { Array($0.rings.values) }.map { ring in
            let queue = ring.queue
            return ring.reactor.run { queue.statistics }
        }
        return disk.attributes + BlockModelStatistics.attributes(asked)
    }

    /// Of every ring, and of those that wait for that to be stopped: a driver gets an error. Asked of a disk that is
    /// away, or does not come back.
    public func cancel() throws(VhostRefusal) {
        let rings = state.withLock { Array($0.rings.values) + Array($0.stopping.values) }
        for ring in rings {
            let queue = ring.queue
            ring.reactor.run { queue.cancel() }
        }
    }

    /// Counts of them begin anew, too.
    public func restoreSignals() { interrupts.restoreTrust() }

    /// By a queue of its own, beside those of the rings.
    public func flush() throws(VhostRefusal) {
        do throws(Errno) { try disk.flush(on: reactors[0]) } catch { throw VhostRefusal("\(disk.name): \(error)") }
    }

    /// The size that the driver knows.
    public var handedOn: [DeviceState.Attribute] {
        guard let bytes = state.withLock({ $0.knownBytes ?? $0.geometry?.byteCount }) else { return [] }
        let little = (0..<8).map { UInt8(truncatingIfNeeded: bytes >> ($0 * 8)) }
        return [.init(.geometry, VhostHandover.knownSize, isRequired: false, little)]
    }

    /// The size that a predecessor's driver knew.
    public func take(_ attributes: [DeviceState.Attribute]) {
        let known = attributes.first { $0.number == VhostHandover.knownSize && $0.bytes.count == 8 }
        state.withLock { $0.knownBytes = known?.bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) } }
    }

    /// Stops every ring, once what it has in work has ended, and lets the memory go.
    public func disconnected() {
        each(nil) { $0.setLogging(nil) }
        for ring in state.withLock({ $0.rings.keys.sorted() }) { _ = stop(ring) }
        state.withLock { $0 = State() }
    }

    // MARK: Rings

    private func start(_ ring: Int, _ plan: VhostRingPlan) throws(VhostRefusal) {
        let (name, log) = (disk.name, log)
        let geometry = disk.geometry
        let (memory, channel) = state.withLock { ($0.memory, $0.channel) }
        let setup = VirtioQueueSetup(
            number: ring, memory: memory, disk: disk,
            rules: VirtioBlockRules(geometry, plan.features, mayUnmap: shape.mayUnmap(geometry)),
            identity: shape.identity, reactor: reactors[ring % reactors.count], channel: channel, interrupt: interrupts.line(ring)
        ) { log("\(name): ring \(ring): \($0)") }
        interrupts.route(ring, to: plan.call)
        let outcome: Result<any RunningBlockQueue, VhostRefusal> = setup.reactor.run { Self.make(plan, setup) }
        if case .failure = outcome { interrupts.silence(ring) }
        let running = RunningRing(reactor: setup.reactor, queue: try outcome.get())
        state.withLock { $0.rings[ring] = running }
    }

    /// A queue for whichever kind of ring it is. On its reactor.
    private static func make(
        _ plan: VhostRingPlan, _ setup: VirtioQueueSetup
    ) -> Result<any RunningBlockQueue, VhostRefusal> {
        do {
            if plan.areas.isPacked {
                if let area = plan.inflight {
                    let start = PackedPosition(rawValue: UInt16(truncatingIfNeeded: plan.base))
                    let recovery = try PackedInflightRecovery(
                        area, ring: plan.areas.descriptors, size: plan.areas.size, startingAt: start)
                    if !recovery.left.isEmpty { setup.report("\(recovery.left.count) requests are done again") }
                    let repeats = recovery.left.count
                    let ring = try PackedDeviceRing(
                        resuming: plan.areas, features: plan.features, recovery, ledger: PackedInflightLedger(recovery))
                    return .success(try VirtioBlockQueue(plan, ring: ring, setup, repeats: repeats))
                }
                let ring = try PackedDeviceRing(attaching: plan.areas, features: plan.features, startingAt: plan.base)
                return .success(try VirtioBlockQueue(plan, ring: ring, setup))
            }
            if let area = plan.inflight {
                // What the front end says of where to go on is not right after a kill: its memory is.
                let shown = plan.areas.device.region.loadRelaxed16(plan.areas.device.offset + SplitLayout.index)
                let used = plan.beginsInflight ? UInt16(truncatingIfNeeded: plan.base) : UInt16(littleEndian: shown)
                let recovery = try InflightRecovery(area, size: plan.areas.size, used: used)
                if !recovery.heads.isEmpty { setup.report("\(recovery.heads.count) requests are done again") }
                let repeats = recovery.heads.count
                let ring = try SplitDeviceRing(
                    resuming: plan.areas, features: plan.features, unanswered: recovery.heads, used: recovery.used,
                    ledger: InflightLedger(recovery))
                return .success(try VirtioBlockQueue(plan, ring: ring, setup, repeats: repeats))
            }
            let base = UInt16(truncatingIfNeeded: plan.base)
            let ring = try SplitDeviceRing(attaching: plan.areas, features: plan.features, startingAt: base)
            return .success(try VirtioBlockQueue(plan, ring: ring, setup))
        } catch { return .failure(VhostRefusal("\(setup.disk.name): \(error)")) }
    }

    /// Stops a ring and waits until what it had in work has ended; where to go on, nil if it does not run.
    private func stop(_ ring: Int, isPausing: Bool = false) -> UInt32? {
        let running = state.withLock { state in
            state.stopping[ring] = state.rings.removeValue(forKey: ring)
            return state.stopping[ring]
        }
        guard let running else { return nil }
        let ended = Handoff<UInt32>()
        let queue = running.queue
        running.reactor.run { queue.stop(isPausing: isPausing) { ended.deliver($0) } }
        defer {
            state.withLock { $0.stopping[ring] = nil }
            interrupts.silence(ring)
        }
        return ended.wait()
    }

    /// Gives every ring other translations, and waits until none uses what was taken back.
    private func translate(_ table: TranslationTable, _ takenBack: ClosedRange<UInt64>?) {
        let (rings, given) = state.withLock { state in
            state.given &+= 1
            return (Array(state.rings.values), state.given)
        }
        guard let takenBack else {
            // What is new is waited for by the rings, and not the other way round; but nobody says more than they read.
            for ring in rings {
                let queue = ring.queue
                let job: @Sendable () -> Void = { queue.translate(table) }
                if given % 16 == 0 { ring.reactor.run(job) } else { ring.reactor.post(job) }
            }
            return
        }
        let ended = rings.map { ring in
            let (queue, ended) = (ring.queue, Handoff<Void>())
            ring.reactor.post {
                queue.translate(table)
                queue.whenUnused(takenBack) { ended.deliver(()) }
            }
            return ended
        }
        for end in ended { end.wait() }
    }

    /// Gives every ring the driver's memory; one that cannot have it stops.
    private func take(_ map: GuestMap) throws(VhostRefusal) {
        state.withLock { $0.memory = map }
        let rings = state.withLock { $0.rings }
        for (ring, running) in rings {
            let queue = running.queue
            if running.reactor.run({ queue.replaceMemory(map) }) { continue }
            _ = stop(ring)
            throw VhostRefusal("ring \(ring) cannot have so large a region of memory")
        }
    }

    /// Does something on the threads of these rings, or of all.
    private func each(_ rings: [Int]?, _ body: @escaping @Sendable (any RunningBlockQueue) -> Void) {
        let running = state.withLock { state in rings.map { $0.compactMap { state.rings[$0] } } ?? Array(state.rings.values) }
        for ring in running {
            let queue = ring.queue
            ring.reactor.run { body(queue) }
        }
    }
}
