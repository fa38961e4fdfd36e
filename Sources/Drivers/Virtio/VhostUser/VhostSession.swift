// What a front end's messages mean, one after another: a state machine without sockets or threads. Each message is
// answered at once, or asks something of whoever runs the rings first; no second message is looked at before that is
// done, which is the order that front ends expect.

import LinuxSystem
import VirtioRing
import VirtioWire

/// What whoever runs the rings is to do.
public enum VhostTask {
    /// Serve a ring from now on; it does not run yet.
    case start(ring: Int, VhostRingPlan)
    /// Serve a ring's requests, or leave them; what waits in it is looked at when it is enabled.
    case enable([(ring: Int, isEnabled: Bool)])
    /// Stop a ring: what is in flight ends first. Then `VhostSession.stopped`.
    case stop(ring: Int)
    /// The same of a ring that is started again later, by this side: what it cannot end has to be found again.
    case pause(ring: Int)
    /// The IO addresses mean this from now on; of those that were taken back nothing may be in use any more when that
    /// is done.
    case translations(TranslationTable, takenBack: ClosedRange<UInt64>?)
    /// A ring is not started, for it cannot be where it is said to be; why.
    case broken(ring: Int, String)
    /// Stop all that run, then forget what the driver agreed to.
    case reset(rings: [Int])
    /// The rings have this memory from now on; those that lay in memory that went are to be stopped.
    case memory(VhostMemory, stopping: [Int])
    /// A ring's call descriptor is another one; it runs.
    case call(ring: Int, Descriptor?)
    /// A ring's kick descriptor is another one; it runs. What was said by the one before is looked for.
    case kickBy(ring: Int, Descriptor?)
    /// A ring's error descriptor is another one; it runs.
    case error(ring: Int, Descriptor?)
    /// These rings, which run, note what they write from now on, or no more.
    case log([(ring: Int, VhostLogging?)])
    /// Take a look at a ring.
    case kick(ring: Int)
    /// A part of the configuration space: the device answers with `VhostSession.configuration`.
    case readConfiguration(offset: Int, byteCount: Int)
    /// The guest wrote to the configuration space.
    case writeConfiguration(offset: Int, [UInt8])
    /// There is a socket for this side's own messages.
    case backendSocket(Descriptor)
    /// The driver's status.
    case status(UInt64)
    /// Tell the network where this address is now; of an interface.
    case announce(MACAddress)
    /// The driver has been told of this MTU; of an interface.
    case mtu(UInt64)
    /// Write the device's state to a descriptor, or read it from there: the connection does it, and answers with
    /// `VhostSession.transferred`.
    case moveState(isLoading: Bool, Descriptor)
    /// Whether that came about: likewise.
    case checkState
}

/// What follows from a message.
public enum VhostStep {
    /// It is done; the answer, if there is one.
    case done(VhostAnswer?)
    /// Do this, and call `finish`.
    case perform(VhostTask)
}

/// One front end's session, from its first message to the end of the connection.
public struct VhostSession {
    /// What is offered.
    public let offer: VhostOffer
    /// The guest's memory.
    public internal(set) var memory = VhostMemory()
    /// What the driver accepted.
    public private(set) var features: VirtioFeatures = [] {
        didSet { if !isTranslated { translations.removeAll() } }
    }
    /// What the IO addresses are, where the driver has an IOMMU.
    public internal(set) var translations = TranslationTable()
    /// Pages of rings that were asked for.
    var askedPages: Set<UInt64> = []
    /// What the front end accepted of the protocol.
    public private(set) var protocolFeatures: VhostProtocolFeatures = []
    /// Whether the front end is trusted with the length of its memory.
    private let trustsMemory: Bool
    /// Whether what is in flight is kept for a successor where the front end keeps nothing.
    let keepsRings: Bool
    /// Where, once a ring has needed it.
    var keptRings: VhostInflight?
    /// While a state is taken over whose process was killed.
    var isRecovering = false
    var rings: [VhostRing]
    private(set) var status: UInt64 = 0
    private(set) var inflight: VhostInflight?
    private(set) var backendSocket: Descriptor?
    var log: DirtyLog?
    /// What the log was made from, for a successor that maps it anew.
    var logSource: (byteCount: UInt64, offset: UInt64, descriptor: Descriptor)?
    var logSignal: Descriptor?
    /// In-flight memory that was made for the message in hand.
    var made: (area: VhostInflightArea, descriptor: Descriptor)?
    /// The message that waits for its task.
    private var pending: VhostEnvelope?
    /// Rings that it still has to stop, the one that is being stopped first.
    private var stopping: [Int] = []
    /// What it asks after that.
    var following: [VhostTask] = []

    /// At its beginning: nothing is agreed.
    /// - Parameter trustsMemory: takes memory that its owner could make shorter, which then ends this process.
    /// - Parameter keepsRings: keeps what is in flight in memory of this side's own where the front end gives none.
    public init(_ offer: VhostOffer, trustsMemory: Bool = false, keepsRings: Bool = false) {
        self.offer = offer
        self.trustsMemory = trustsMemory
        self.keepsRings = keepsRings
        rings = Array(repeating: VhostRing(), count: offer.rings)
    }

    /// Whether a task is being done; no message may be handled meanwhile.
    public var isBusy: Bool { pending != nil }
    /// Whether the driver has packed rings.
    private var isPacked: Bool { features.contains(.packedRing) }
    /// Rings that run.
    public var running: [Int] { rings.indices.filter { rings[$0].isRunning } }
    /// Whether a ring's requests are served.
    public func isEnabled(_ ring: Int) -> Bool { rings[ring].isEnabled }

    /// Handles the next message. What it throws is to be said to the front end by `refusal`; where that gives nothing
    /// the connection has to end.
    public mutating func handle(_ envelope: VhostEnvelope) throws(VhostUserError) -> VhostStep {
        precondition(pending == nil, "a message before the one before is done")
        let task = try task(for: envelope.message, envelope.request)
        guard let task else { return .done(answer(to: envelope)) }
        pending = envelope
        return .perform(task)
    }

    /// What the same message asks next, when a task is done with this result.
    public mutating func next(after base: UInt32?) -> VhostTask? {
        if !stopping.isEmpty {
            let ring = stopping.removeFirst()
            if let base { rings[ring].base = base }
            if let next = stopping.first { return following.isEmpty ? .stop(ring: next) : .pause(ring: next) }
        }
        return following.isEmpty ? nil : following.removeFirst()
    }

    /// Stops rings that are to be started again, and then does something.
    mutating func pause(_ paused: [Int], then task: VhostTask) -> VhostTask {
        guard let first = paused.first else { return task }
        for index in paused { rings[index].isRunning = false }
        (stopping, following) = (paused, [task])
        return .pause(ring: first)
    }

    /// The task is done.
    public mutating func finish() -> VhostAnswer? {
        defer { pending = nil }
        return pending.flatMap { answer(to: $0) }
    }

    /// The message in hand, which is answered now.
    mutating func takePending() -> VhostRequest? {
        defer { pending = nil }
        return pending?.request
    }

    /// A ring was stopped by this side, to be gone on with by a successor: where. It runs, for the front end.
    mutating func held(_ ring: Int, at base: UInt32) { rings[ring].base = base }

    /// The task that was to stop a ring is done: where its entries are to be gone on with, as `DeviceRing.base` has it.
    public mutating func stopped(_ base: UInt32) -> VhostAnswer? {
        defer { pending = nil }
        guard let pending, case .getRingBase(let number) = pending.message else { return finish() }
        rings[Int(number)].base = base
        return ringBase(number)
    }

    /// What the device has of its configuration space, from the offset that was asked for: filled up with zeroes to
    /// what the front end wants, which may know of more fields than there are.
    public mutating func configuration(_ bytes: [UInt8]) -> VhostAnswer? {
        defer { pending = nil }
        guard let pending, case .getConfiguration(let offset, let count, let flags) = pending.message else { return finish() }
        var payload: [UInt8] = []
        for word in [offset, count, flags] { payload.put(word) }
        payload += bytes.prefix(Int(count))
        payload += Array(repeating: 0, count: max(0, Int(count) - bytes.count))
        return VhostAnswer(to: pending.request, payload)
    }

    /// The answer to a message that was refused; nil: there is no way to say so but to end the connection.
    public mutating func refusal(of envelope: VhostEnvelope) -> VhostAnswer? {
        pending = nil
        (stopping, following) = ([], [])
        // QEMU does not look into the answer to a log, and what was said of features has no other answer
        // (vhost-user.rst, "In-band notifications"): they have to notice.
        guard !envelope.request.isAlwaysAnswered, envelope.request != .setLogBase, envelope.request != .setProtocolFeatures,
            envelope.needsReply, protocolFeatures.contains(.replyAck)
        else { return nil }
        return VhostAnswer(to: envelope.request, 1)
    }
}

extension VhostSession {
    /// What has to be done for a message; nil: nothing but to note it.
    private mutating func task(for message: VhostMessage, _ request: VhostRequest) throws(VhostUserError) -> VhostTask? {
        switch message {
        case .setFeatures(let accepted): return try accept(accepted)
        case .setProtocolFeatures(let accepted):
            let unknown = accepted.subtracting(offer.protocolFeatures)
            guard unknown.isEmpty else { throw .notOffered(unknown.rawValue) }
            guard accepted.isSuperset(of: accepted.needed) else { throw .lacking(accepted.needed) }
            protocolFeatures = accepted
        case .setMemoryTable, .addRegion, .removeRegion: return try change(message)
        case .setRingSize(let ring, let size):
            let index = try idle(ring)
            guard size > 0, size <= offer.mostEntries else { throw .badRingSize(size) }
            rings[index].size = size
        case .setRingBase(let ring, let base): rings[try idle(ring)].base = base
        case .setRingAddresses(let ring, let addresses): return try place(ring, addresses)
        case .setRingKick(let ring, let kick):
            let index = try ringIndex(ring)
            rings[index].kick = .some(kick)
            guard rings[index].isRunning else { return try start(index) }
            rings[index].isKickedByMessage = false
            return .kickBy(ring: index, kick)
        case .setRingCall, .setRingError, .ringKick: return try bell(message, request)
        case .setRingEnabled(let ring, let isEnabled):
            let index = try ringIndex(ring)
            rings[index].isEnabled = isEnabled
            if rings[index].isRunning { return .enable([(index, isEnabled)]) }
        case .getRingBase(let ring): return stop(try ringIndex(ring))
        case .resetDevice, .resetOwner: return reset()
        case .getConfiguration(let offset, let byteCount, _):
            return .readConfiguration(offset: Int(offset), byteCount: Int(byteCount))
        case .setConfiguration(let offset, _, let bytes): return .writeConfiguration(offset: Int(offset), bytes)
        case .setBackendSocket(let socket):
            backendSocket = socket
            return .backendSocket(socket)
        case .getStatus: try expect(.status, request)
        case .setStatus(let word):
            try expect(.status, request)
            status = word
            return word == 0 ? resetByStatus() : .status(word)
        case .getInflight(let area):
            try expect(.inflightMemory, request)
            made = try VhostInflight.make(area, rings: rings.count, isPacked: isPacked)
        case .setInflight(let area, let descriptor):
            try expect(.inflightMemory, request)
            guard running.isEmpty else { throw .ringIsRunning(running[0]) }
            inflight = try VhostInflight(area, descriptor, isPacked: isPacked)
        case .setLogBase, .setLogDescriptor:
            try expect(.sharedLog, request)
            return try takeLog(message)
        case .sendAnnouncement, .setMTU: return try interfaceTask(for: message, request)
        case .getFeatures, .setOwner, .getProtocolFeatures, .getQueueCount, .getMostRegions: return nil
        case .translation(let translation): return try translate(translation, request)
        case .setDeviceState, .checkDeviceState: return try stateTask(for: message, request)
        }
        return nil
    }

    /// A message of a feature that was offered.
    func expect(_ feature: VhostProtocolFeatures, _ request: VhostRequest) throws(VhostUserError) {
        guard offer.protocolFeatures.contains(feature) else { throw .unknownRequest(request.rawValue) }
    }

    func ringIndex(_ ring: UInt32) throws(VhostUserError) -> Int {
        guard ring < rings.count else { throw .noSuchRing(ring) }
        return Int(ring)
    }

    /// A ring that does not run: its settings may change.
    private func idle(_ ring: UInt32) throws(VhostUserError) -> Int {
        let index = try ringIndex(ring)
        guard !rings[index].isRunning else { throw .ringIsRunning(index) }
        return index
    }

    private mutating func accept(_ accepted: VirtioFeatures) throws(VhostUserError) -> VhostTask? {
        let unknown = accepted.subtracting(known)
        guard unknown.isEmpty else { throw .notOffered(unknown.rawValue) }
        try checkTranslated(accepted)
        let wasLogging = isLogging
        if accepted.contains(.logAll), let log { try log.check(memory) }
        features = accepted
        forgetTranslations()
        if !accepted.contains(.logAll) { (log, logSignal, logSource) = (nil, nil, nil) }
        if wasLogging != isLogging, accepted.contains(.protocolFeatures) {
            return logs(of: running)
        }
        // A front end that does not know of enabling has all rings enabled (vhost-user.rst, "Ring states").
        if accepted.contains(.protocolFeatures) { return nil }
        for index in rings.indices { rings[index].isEnabled = true }
        let running = running
        return running.isEmpty ? nil : .enable(running.map { ($0, true) })
    }

    private mutating func place(_ ring: UInt32, _ addresses: VhostRingAddresses) throws(VhostUserError) -> VhostTask? {
        let index = try ringIndex(ring)
        if rings[index].isRunning {
            // While a guest migrates the same addresses come again, with a log.
            var same = addresses
            same.log = rings[index].addresses?.log
            guard same == rings[index].addresses else { throw .ringIsRunning(index) }
            guard !isTranslated || addresses.log == nil || rings[index].place != nil else { throw .scatteredRing(index) }
        }
        if isLogging, !isTranslated, let log, let address = addresses.log {
            let byteCount = SplitLayout.deviceBytes(Int(rings[index].size), eventIndex: true)
            guard log.covers(address, byteCount: UInt64(byteCount)) else { throw .shortLog(pages: log.pageCount, guest: address) }
        }
        rings[index].addresses = addresses
        return rings[index].isRunning && isLogging ? logs(of: [index]) : try start(index)
    }

    /// Starts a ring for which nothing is missing.
    mutating func start(_ index: Int) throws(VhostUserError) -> VhostTask? {
        if rings[index].isRunning { return nil }
        let found: VhostRingPlan?
        let theirs = inflight?.part(of: index, entries: rings[index].size, isPacked: isPacked)
        let own = theirs == nil ? try ownPart(of: index, isPacked: isPacked) : nil
        do throws(VirtqueueError) {
            if isTranslated {
                found = try placed(index, theirs, own)
            } else {
                found = try rings[index].plan(
                    in: memory.userMap, features, protocolFeatures, inflight: theirs, own: own, recovers: isRecovering,
                    logging: logging(of: index))
            }
        } catch {
            throw .badRing(index, error)
        }
        guard let plan = found else { return nil }
        rings[index].isRunning = true
        return .start(ring: index, plan)
    }

    private mutating func stop(_ index: Int) -> VhostTask? {
        let wasRunning = rings[index].isRunning
        rings[index].stop()
        forgetTranslations()
        return wasRunning ? .stop(ring: index) : nil
    }

    private mutating func reset() -> VhostTask? {
        let running = running
        for index in rings.indices { rings[index].reset() }
        features = []
        return running.isEmpty ? nil : .reset(rings: running)
    }

    /// A status of 0 resets the device. Where its rings were is kept: QEMU 7.2 asks that afterwards, when it stops a
    /// device that a guest takes along.
    private mutating func resetByStatus() -> VhostTask? {
        stopping = running
        for index in rings.indices {
            let base = rings[index].base
            rings[index].reset()
            rings[index].base = base
        }
        features = []
        return stopping.first.map { .stop(ring: $0) }
    }

    /// Another memory table; the one before stays where a message is refused.
    private mutating func change(_ message: VhostMessage) throws(VhostUserError) -> VhostTask {
        var changed = memory
        switch message {
        case .setMemoryTable(let table):
            changed = VhostMemory()
            for (region, descriptor) in table { try changed.add(region, descriptor, mayShrink: trustsMemory) }
        case .addRegion(let region, let descriptor): try changed.add(region, descriptor, mayShrink: trustsMemory)
        case .removeRegion(let region): try changed.remove(region)
        default: break
        }
        if isLogging, let log { try log.check(changed) }
        if isTranslated { return changeTranslated(changed) }
        memory = changed
        let map = changed.userMap
        let lost = running.filter { index in (try? rings[index].plan(in: map, features)) == nil }
        for index in lost { _ = stop(index) }
        return .memory(changed, stopping: lost)
    }
}
