// A front end's connection on a thread of its own: one message after another, as the session wants it. What takes long
// (a ring that is stopped, memory that every queue must take) is waited for here, and nowhere that data goes by.

import DeviceState
import LinuxSystem
import Synchronization

/// Why a device cannot do what a front end asks.
public struct VhostRefusal: Error, Equatable, CustomStringConvertible {
    /// In words.
    public let description: String
    /// With these words.
    public init(_ description: String) { self.description = description }
}

/// A device that front ends use, one after another. Everything is called on the connection's thread.
public protocol VhostDevice: AnyObject, Sendable {
    /// What it is.
    var kind: DeviceState.Kind { get }
    /// What is offered to the next front end.
    var offer: VhostOffer { get }
    /// Does what the session asks, and returns when it is done. Of a ring that was stopped: where to go on.
    func perform(_ task: VhostTask) throws(VhostRefusal) -> UInt32?
    /// A part of the configuration space, as long as there is any.
    func configuration(from offset: Int, byteCount: Int) -> [UInt8]
    /// Comes by about once a second as long as nobody asks anything.
    func idle()
    /// A front end that a predecessor has served is this device's now; what it knew of the configuration space may be
    /// out of date.
    func resumed()
    /// The front end is gone: every ring is to be stopped, its memory let go.
    func disconnected()
    /// What describes it, whoever uses it: identity, geometry, counters. From any thread.
    var attributes: [DeviceState.Attribute] { get }
    /// Ends what is in work with an error, where that can be, be it that a ring waits for it to stop. From any thread
    /// but those of its rings.
    func cancel() throws(VhostRefusal)
    /// Signals the driver again by descriptors that were left alone, for it had made them block.
    func restoreSignals()
    /// Makes durable what was written. From any thread but those of its rings.
    func flush() throws(VhostRefusal)
    /// The rings are about to be stopped one by one for a successor of this process, or to be gone on with here: the
    /// front end and whoever is at the device's other side are not to notice. Ends with `resumed` or `disconnected`.
    func hold()
    /// They have been stopped: the memory is let go.
    func putBy()
    /// What the device has beside its rings, for a successor.
    var handedOn: [DeviceState.Attribute] { get }
    /// The same, as a predecessor has left it, before the first ring starts.
    func take(_ attributes: [DeviceState.Attribute])
}

extension VhostDevice {
    /// A ring that is stopped is all that there is.
    public func hold() {}
    /// None are left alone.
    public func restoreSignals() {}
    /// Nothing else is left.
    public func putBy() { disconnected() }
    /// There is nothing.
    public var handedOn: [DeviceState.Attribute] { [] }
    /// There is nothing.
    public func take(_ attributes: [DeviceState.Attribute]) {}
}

/// How serving a front end ended.
public enum VhostEnd {
    /// It is gone; why, if that was not its wish.
    case gone(String?)
    /// It was put by: the front end waits, and has not noticed.
    case held(VhostHandover)
}

/// One front end's connection.
public final class VhostConnection: Sendable {
    private let socket: Descriptor
    private let device: any VhostDevice
    private let wake: EventCounter
    private let isHeld = Atomic<Bool>(false)
    private let orders = Mutex(VhostOrders())
    private let trustsMemory: Bool
    private let keeper: (any VhostKeeper)?
    private let refused: @Sendable (String) -> Void
    private let isTracing = Atomic<Bool>(false)
    private let traced: @Sendable (String) -> Void

    /// A connection that nobody has read from, or that a predecessor has put by.
    /// - Parameters:
    ///   - trustsMemory: see `VhostSession`.
    ///   - keeper: keeps the session for the case that this process is killed.
    ///   - refused: gets the reason when a message is refused and the connection goes on; of a few messages only, for a
    ///     front end can send many.
    ///   - traced: gets a line for each message while that is wanted.
    public init(
        _ socket: Descriptor, _ device: any VhostDevice, trustsMemory: Bool = false, keeper: (any VhostKeeper)? = nil,
        refused: @escaping @Sendable (String) -> Void = { _ in }, traced: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(Errno) {
        self.socket = socket
        self.device = device
        self.trustsMemory = trustsMemory
        self.keeper = keeper
        self.refused = refused
        self.traced = traced
        wake = try EventCounter()
    }

    /// Refusals of one connection that are told.
    private static let mostRefusals = 8
    /// How long a message that has begun to come may take to come whole, when the connection is to be put by.
    private static let holdRounds = 10
    private static let roundMilliseconds: Int32 = 100

    /// Ends the connection from any thread; `run` returns.
    public func close() { socket.shutDown() }

    /// Has the connection put by, from any thread: `run` stops the rings between two messages and returns.
    public func hold() {
        isHeld.store(true, ordering: .releasing)
        wake.ring()
    }

    /// Tells of each message from now on, or of none.
    func trace(_ isOn: Bool) { isTracing.store(isOn, ordering: .relaxed) }

    /// Has something done between two messages, and waits for it. From any other thread.
    func ask(_ order: VhostOrder) throws(VhostRefusal) {
        let answer = OneAnswer()
        guard orders.withLock({ $0.add(order, answer) }) else { throw VhostRefusal("its driver is gone") }
        wake.ring()
        if let refusal = answer.wait() { throw refusal }
    }

    /// Serves the front end until it is gone, or put by. On a thread of its own.
    /// - Parameters:
    ///   - handover: what a predecessor has left of it.
    ///   - began: called once it is known whether the rings run that the predecessor had stopped.
    public func run(resuming handover: VhostHandover? = nil, began: (_ isServed: Bool) -> Void = { _ in }) -> VhostEnd {
        let end = serve(resuming: handover, began: began)
        for (_, answer) in orders.withLock({ $0.close() }) { answer.deliver(VhostRefusal("its driver is gone")) }
        switch end {
        case .held: device.putBy()
        case .gone:
            device.disconnected()
            keeper?.ended()
        }
        return end
    }

    private func serve(resuming handover: VhostHandover?, began: (_ isServed: Bool) -> Void) -> VhostEnd {
        var session = VhostSession(device.offer, trustsMemory: trustsMemory, keepsRings: keeper != nil)
        if let handover {
            device.take(handover.ofDevice)
            do throws(VhostResumeError) {
                try session.resume(handover) { (task) throws(VhostRefusal) in _ = try device.perform(task) }
            } catch {
                began(false)
                return .gone("cannot be gone on with: \(error)")
            }
            device.resumed()
        }
        keeper?.began(snapshot(session))
        began(true)
        var assembler = VhostAssembler()
        var (rounds, refusals) = (0, 0)
        var transfer = VhostStateTransfer()
        while true {
            if rounds == 0 { wake.take() }
            for (order, answer) in orders.withLock({ $0.take() }) { answer.deliver(refusal(of: order, session)) }
            session.askForRings()
            if isHeld.load(ordering: .acquiring) {
                if assembler.isBetweenMessages { return hold(&session) }
                rounds += 1
                if rounds > Self.holdRounds { return .gone("was in the midst of a message when it was to be put by") }
            }
            do throws(Errno) {
                let hasMessage = try waitForMessage(rounds > 0)
                if session.memory.isLost { return .gone("has made its memory shorter than it had said") }
                guard hasMessage else {
                    session.forgetAsked()
                    continue
                }
                keeper?.willRead()
                let (bytes, descriptors) = try StreamSocket.receive(
                    socket, capacity: assembler.wanted, descriptors: VhostLimits.regionsInMessage)
                if bytes.isEmpty { return .gone(nil) }
                do throws(VhostUserError) {
                    guard let envelope = try assembler.take(bytes, descriptors) else { continue }
                    if let trouble = handle(envelope, &session, &transfer, &refusals) { return .gone(trouble) }
                    keeper?.didAnswer()
                } catch { return .gone("\(error)") }
            } catch { return .gone(error == .connectionReset ? nil : "\(error)") }
        }
    }

    /// Waits until the front end says something, or a while; false: it has not.
    private func waitForMessage(_ isHolding: Bool) throws(Errno) -> Bool {
        // Nobody waits for a wake-up any more that has been seen.
        let bell = isHolding ? -1 : wake.descriptor.rawValue
        guard try waitReadable(socket.rawValue, bell, milliseconds: isHolding ? Self.roundMilliseconds : 1000) else {
            if !isHolding { device.idle() }
            return false
        }
        return try waitReadable(socket.rawValue, milliseconds: 0)
    }

    /// Does what somebody else than the front end wants.
    private func refusal(of order: VhostOrder, _ session: borrowing VhostSession) -> VhostRefusal? {
        do throws(VhostRefusal) {
            switch order {
            case .refresh: device.idle()
            case .announce(let address): _ = try device.perform(.announce(address))
            case .kick(let ring):
                try expectRunning(ring, session)
                _ = try device.perform(.kick(ring: ring))
            case .inject(let ring):
                try expectRunning(ring, session)
                guard let call = session.rings[ring].call else {
                    throw VhostRefusal("the driver gave ring \(ring) nothing to signal")
                }
                call.tell()
            }
        } catch { return error }
        return nil
    }

    private func expectRunning(_ ring: Int, _ session: borrowing VhostSession) throws(VhostRefusal) {
        guard session.rings.indices.contains(ring) else { throw VhostRefusal("no ring \(ring); it has \(session.rings.count)") }
        guard session.rings[ring].isRunning else { throw VhostRefusal("ring \(ring) does not run") }
    }

    /// Stops the rings, each once what it has in work has ended, and says how to go on.
    private func hold(_ session: inout VhostSession) -> VhostEnd {
        device.hold()
        do throws(VhostRefusal) {
            for ring in session.running {
                if let base = try device.perform(.stop(ring: ring)) { session.held(ring, at: base) }
            }
        } catch { return .gone("\(error)") }
        let handover = snapshot(session)
        keeper?.keep(handover)
        return .held(handover)
    }

    /// The session, and what the device has beside it.
    private func snapshot(_ session: VhostSession) -> VhostHandover {
        var handover = session.handover(device.kind, socket)
        handover.state.attributes += device.handedOn
        return handover
    }

    /// Handles a message and answers it; why the connection has to end, if it has.
    private func handle(
        _ envelope: VhostEnvelope, _ session: inout VhostSession, _ transfer: inout VhostStateTransfer, _ refusals: inout Int
    ) -> String? {
        var (answer, trouble): (VhostAnswer?, String?)
        var refusal: String?
        do throws(VhostUserError) {
            switch try session.handle(envelope) {
            case .done(let done): answer = done
            case .perform(.readConfiguration(let offset, let byteCount)):
                answer = session.configuration(device.configuration(from: offset, byteCount: byteCount))
            case .perform(.moveState(let isLoading, let descriptor)):
                // What runs changes as it is written.
                if session.running.isEmpty {
                    refusal = transfer.begin(
                        isLoading: isLoading, descriptor, DeviceState(device.kind, over: .vhostUser, device.attributes))
                } else {
                    refusal = "its state, while ring \(session.running[0]) runs"
                }
                answer = session.transferred(refusal == nil)
            case .perform(.checkState):
                refusal = transfer.check(device.kind, device.attributes)
                answer = session.transferred(refusal == nil)
            case .perform(let task): (answer, trouble) = perform(task, envelope, &session, &refusal)
            }
        } catch { (answer, trouble) = refuse(envelope, &session, "\(error)", &refusal) }
        if isTracing.load(ordering: .relaxed) { traced("\(envelope.request): \(refusal ?? "done")") }
        if let refusal, trouble == nil, refusals < Self.mostRefusals {
            refusals += 1
            refused(refusal)
        }
        keeper?.keep(snapshot(session))
        guard let answer else { return trouble }
        do throws(Errno) { try PacketSocket.send(socket, answer.bytes, answer.descriptor.map { [$0] } ?? []) } catch {
            return "\(error)"
        }
        return trouble
    }

    private func perform(
        _ task: VhostTask, _ envelope: VhostEnvelope, _ session: inout VhostSession, _ refusal: inout String?
    ) -> (VhostAnswer?, String?) {
        do throws(VhostRefusal) {
            var base = try device.perform(task)
            while let next = session.next(after: base) { base = try device.perform(next) }
            return (base.map { session.stopped($0) } ?? session.finish(), nil)
        } catch { return refuse(envelope, &session, "\(error)", &refusal) }
    }

    /// A refusal is said where it can be; else the connection ends, which is the only other word there is.
    private func refuse(
        _ envelope: VhostEnvelope, _ session: inout VhostSession, _ reason: String, _ refusal: inout String?
    ) -> (VhostAnswer?, String?) {
        refusal = reason
        let answer = session.refusal(of: envelope)
        return (answer, answer == nil ? reason : nil)
    }
}
