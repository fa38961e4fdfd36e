// A front end that listens, and a device that comes to it: as often as it is there; or one that is connected when it
// begins. What is at the socket is no more trusted than what comes to a VhostServer's.

import LinuxSystem
import Synchronization

/// Serves one device to whoever listens at a socket, on a thread of its own.
public final class VhostClient: Sendable {
    /// Where the front end listens.
    public let path: String
    private let device: any VhostDevice
    private let trustsMemory: Bool
    private let log: @Sendable (String) -> Void
    private let wake: EventCounter
    private let state = Mutex(State())

    /// Whether the thread serves nobody, for it is to wait.
    private let isIdle = Monitor(false)

    private struct State {
        var isStopping = false
        var isHolding = false
        var isTracing = false
        var held: VhostHandover?
        var connection: VhostConnection?
        var thread: WorkerThread?
    }

    /// Serves the front end at the other end of `socket`, and no other.
    /// - Parameters:
    ///   - path: what messages name it.
    ///   - ended: called once it has gone and its rings have stopped; from the client's thread.
    ///   - log: as for a front end that listens.
    public convenience init(
        path: String, connected socket: Descriptor, _ device: any VhostDevice, trustsMemory: Bool = false,
        ended: @escaping @Sendable () -> Void, log: @escaping @Sendable (String) -> Void
    ) throws(Errno) {
        let first = Mutex<Descriptor?>(socket)
        try self.init(path, device, trustsMemory, log, meet: { () throws(Errno) in first.withLock { $0.take() } }, ended: ended)
    }

    /// How long to wait before a socket is tried again at which nobody listens, or whose front end has gone.
    private static let pauseMilliseconds: Int32 = 100

    /// Goes to the socket at `path`, now and whenever the front end there has gone; there need be none yet.
    /// - Parameters:
    ///   - trustsMemory: see `VhostSession`.
    ///   - log: gets a line when a front end is met and gone, and when there is none; from the client's thread.
    public convenience init(
        path: String, _ device: any VhostDevice, trustsMemory: Bool = false, log: @escaping @Sendable (String) -> Void
    ) throws(Errno) {
        try self.init(
            path, device, trustsMemory, log,
            meet: { () throws(Errno) in try StreamSocket.connect(path: path, waits: false) }, ended: {})
    }

    private init(
        _ path: String, _ device: any VhostDevice, _ trustsMemory: Bool, _ log: @escaping @Sendable (String) -> Void,
        meet: @escaping @Sendable () throws(Errno) -> Descriptor?, ended: @escaping @Sendable () -> Void
    ) throws(Errno) {
        self.path = path
        self.device = device
        self.trustsMemory = trustsMemory
        self.log = log
        wake = try EventCounter()
        let thread = try WorkerThread(name: "vhost-user") { [self] in run(meet, ended) }
        state.withLock { $0.thread = thread }
    }

    /// See `VhostPlace`.
    public func stop() {
        let thread = state.withLock { state in
            state.isStopping = true
            state.connection?.close()
            defer { state.thread = nil }
            return state.thread
        }
        wake.ring()
        thread?.join()
        state.withLock { $0.held = nil }
    }

    /// - Parameters:
    ///   - meet: the next front end's socket; nil: there will be none any more.
    ///   - ended: called then.
    private func run(_ meet: () throws(Errno) -> Descriptor?, _ ended: () -> Void) {
        // Why it is not there is said once, and anew when it has changed.
        var said: Errno?
        while !state.withLock({ $0.isStopping }) {
            let isHolding = state.withLock { state in
                isIdle.change { $0 = state.isHolding }
                return state.isHolding
            }
            if isHolding {
                waitForOrders(milliseconds: -1)
                continue
            }
            do throws(Errno) {
                let held = state.withLock { $0.held.take() }
                let met = if let held { held.socket } else { try meet() }
                guard let socket = met else { return ended() }
                said = nil
                log("\(path): \(held == nil ? "met a front end" : "its front end goes on")")
                try serve(socket, resuming: held)
            } catch {
                if error != said { log("\(path): \(error); it is looked for again") }
                said = error
            }
            waitForOrders(milliseconds: Self.pauseMilliseconds)
        }
    }

    private func waitForOrders(milliseconds: Int32) {
        if (try? waitReadable(wake.descriptor.rawValue, milliseconds: milliseconds)) == true { wake.take() }
    }

    private func serve(_ socket: Descriptor, resuming handover: VhostHandover?) throws(Errno) {
        let connection = try VhostConnection(socket, device, trustsMemory: trustsMemory) { [self] reason in
            log("\(path): refused: \(reason)")
        } traced: { [self] line in
            log("\(path): \(line)")
        }
        state.withLock { state in
            state.connection = connection
            connection.trace(state.isTracing)
            if state.isStopping { connection.close() }
            if state.isHolding { connection.hold() }
        }
        let end = connection.run(resuming: handover)
        state.withLock { $0.connection = nil }
        switch end {
        case .held(let held): state.withLock { $0.held = held }
        case .gone(let reason): log("\(path): the front end is gone\(reason.map { ": \($0)" } ?? "")")
        }
    }
}

extension VhostClient {
    /// See `VhostPlace`.
    public var connection: VhostConnection? { state.withLock { $0.connection } }
    /// See `VhostPlace`.
    public var isHeld: Bool { state.withLock { $0.isHolding } }
    /// See `VhostPlace`.
    public var held: VhostHandover? { state.withLock { $0.held } }

    /// See `VhostPlace`.
    public func hold(milliseconds: Int, _ time: any TimeSource) -> Bool {
        state.withLock { state in
            state.isHolding = true
            state.connection?.hold()
        }
        wake.ring()
        return isIdle.wait(milliseconds: milliseconds, time) { $0 ? true : nil } != nil
    }

    /// See `VhostPlace`.
    public func resume() throws(Errno) {
        state.withLock { $0.isHolding = false }
        wake.ring()
    }

    /// See `VhostPlace`.
    public func trace(_ isOn: Bool) {
        state.withLock { state in
            state.isTracing = isOn
            state.connection?.trace(isOn)
        }
    }
}
