// A socket that front ends connect to, one after another: a device has one driver. The next one waits in the socket's
// queue until the one before is gone. Serving can be put by and gone on with, here or in a successor, while front ends
// wait and notice nothing.

import LinuxSystem
import Synchronization

/// Serves one device at one socket, on a thread of its own.
public final class VhostServer: Sendable {
    /// Where it listens.
    public let path: String
    /// What it listens on; a successor that is given it goes on at the same place in the same queue.
    public let listener: Descriptor
    private let device: any VhostDevice
    private let trustsMemory: Bool
    private let keeper: (any VhostKeeper)?
    private let log: @Sendable (String) -> Void
    private let wake: EventCounter
    private let state = Mutex(State())
    /// Whether the thread has come to its end, for who waits no longer than he likes.
    private let isIdle = Monitor(false)

    private struct State {
        var isStopping = false
        var isHolding = false
        var isTracing = false
        var connection: VhostConnection?
        var held: VhostHandover?
        var thread: WorkerThread?
    }

    /// Listens at `path`; a socket that nobody serves any more is replaced.
    /// - Parameters:
    ///   - trustsMemory: see `VhostSession`.
    ///   - keeper: see `VhostConnection`.
    ///   - log: gets a line when a front end comes and goes; from the server's thread.
    public convenience init(
        path: String, _ device: any VhostDevice, trustsMemory: Bool = false, keeper: (any VhostKeeper)? = nil,
        log: @escaping @Sendable (String) -> Void
    ) throws(Errno) {
        if FileSystem.isSocket(path), !StreamSocket.isListening(at: path) { FileSystem.remove(path) }
        let listener = try StreamSocket.listen(path: path, backlog: 16, blocks: true)
        do throws(Errno) {
            try self.init(
                path: path, listener: listener, device, trustsMemory: trustsMemory, keeper: keeper, resuming: nil, log: log)
        } catch {
            FileSystem.remove(path)
            throw error
        }
    }

    /// Goes on where a predecessor has put by: at its socket, with its front end if it had one.
    /// - Parameter began: called once the front end's rings run, or cannot; at once if there is none. From the server's
    ///   thread.
    public init(
        path: String, listener: Descriptor, _ device: any VhostDevice, trustsMemory: Bool = false,
        keeper: (any VhostKeeper)? = nil, resuming handover: VhostHandover?,
        began: @escaping @Sendable () -> Void = {}, log: @escaping @Sendable (String) -> Void
    ) throws(Errno) {
        self.path = path
        self.listener = listener
        self.device = device
        self.trustsMemory = trustsMemory
        self.keeper = keeper
        self.log = log
        wake = try EventCounter()
        try start(resuming: handover, began)
    }

    /// Ends the front end's connection, waits until its rings have stopped, and removes the socket.
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
        FileSystem.remove(path)
    }

    /// Begins what `hold` does, without waiting for it.
    public func askToHold() {
        state.withLock { state in
            state.isHolding = true
            state.connection?.hold()
        }
        wake.ring()
    }

    /// Stops serving, once what is in work has ended, without the front end's noticing; what a successor needs of it,
    /// nil: there is none, or it is gone. Nothing is served until `resume`.
    public func hold() -> VhostHandover? {
        askToHold()
        let thread = state.withLock { state in
            defer { state.thread = nil }
            return state.thread
        }
        thread?.join()
        return state.withLock { $0.held }
    }

    /// As `hold`, but waits so long at most; false: something is still in work, and it is put by once that has ended.
    public func hold(milliseconds: Int, _ time: any TimeSource) -> Bool {
        askToHold()
        guard isIdle.wait(milliseconds: milliseconds, time, { $0 ? true : nil }) != nil else { return false }
        _ = hold()
        return true
    }

    /// What was put by; nil: nothing, or it is asked for and not done.
    public var held: VhostHandover? { state.withLock { $0.held } }
    /// Whether nothing is served until `resume`.
    public var isHeld: Bool { state.withLock { $0.isHolding } }
    /// The front end's connection, while it is served.
    public var connection: VhostConnection? { state.withLock { $0.connection } }

    /// Tells of each message in the log from now on, of later front ends too, or no more.
    public func trace(_ isOn: Bool) {
        state.withLock { state in
            state.isTracing = isOn
            state.connection?.trace(isOn)
        }
    }

    /// Goes on here after all.
    public func resume() throws(Errno) {
        let held = state.withLock { state in
            state.isHolding = false
            defer { state.held = nil }
            return state.held
        }
        try start(resuming: held) {}
    }

    private func start(resuming handover: VhostHandover?, _ began: @escaping @Sendable () -> Void) throws(Errno) {
        isIdle.change { $0 = false }
        let thread = try WorkerThread(name: "vhost-user") { [self] in
            if let handover {
                serve(handover.socket, resuming: handover) { isServed in
                    if isServed { log("\(path): its front end goes on") }
                    began()
                }
            } else {
                began()
            }
            accept()
            isIdle.change { $0 = true }
        }
        state.withLock { $0.thread = thread }
    }

    private var isEnding: Bool { state.withLock { $0.isStopping || $0.isHolding } }

    /// Serves one front end after another.
    private func accept() {
        while !isEnding {
            do throws(Errno) {
                _ = try waitReadable(listener.rawValue, wake.descriptor.rawValue, milliseconds: -1)
                wake.take()
                if isEnding { return }
                guard try waitReadable(listener.rawValue, milliseconds: 0), let socket = try StreamSocket.accept(listener) else {
                    continue
                }
                log("\(path): a front end connected")
                serve(socket, resuming: nil) { _ in }
            } catch {
                // Out of descriptors or memory: no reason to spin, nor to serve no more.
                log("\(path): \(error)")
                _ = try? waitReadable(wake.descriptor.rawValue, milliseconds: 1000)
            }
        }
    }

    private func serve(_ socket: Descriptor, resuming handover: VhostHandover?, _ began: (Bool) -> Void) {
        let end: VhostEnd
        do throws(Errno) {
            let connection = try VhostConnection(socket, device, trustsMemory: trustsMemory, keeper: keeper) { [self] reason in
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
            end = connection.run(resuming: handover, began: began)
        } catch {
            began(false)
            end = .gone("\(error)")
        }
        state.withLock { $0.connection = nil }
        switch end {
        case .held(let held): state.withLock { $0.held = held }
        case .gone(let reason): log("\(path): the front end is gone\(reason.map { ": \($0)" } ?? "")")
        }
    }
}
