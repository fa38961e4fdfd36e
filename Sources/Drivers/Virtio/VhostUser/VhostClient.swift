// A front end that listens, and a device that comes to it: as often as it is there; or one that is connected when it
// begins. What is at the socket is no more trusted than what comes to a VhostServer's.

import LinuxSystem
import Synchronization

/// Where a device and its front ends meet.
public protocol VhostPlace: Sendable {
    /// The socket.
    var path: String { get }
    /// Ends the front end's connection, waits until its rings have stopped, and serves no other.
    func stop()
}

extension VhostServer: VhostPlace {}

/// Serves one device to whoever listens at a socket, on a thread of its own.
public final class VhostClient: VhostPlace {
    /// Where the front end listens.
    public let path: String
    private let device: any VhostDevice
    private let trustsMemory: Bool
    private let log: @Sendable (String) -> Void
    private let wake: EventCounter
    private let state = Mutex(State())

    private struct State {
        var isStopping = false
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
        try self.init(path, device, trustsMemory, log) { client in
            do throws(Errno) { try client.serve(socket) } catch { log("\(path): \(error)") }
            ended()
        }
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
        try self.init(path, device, trustsMemory, log) { $0.lookAgainAndAgain() }
    }

    private init(
        _ path: String, _ device: any VhostDevice, _ trustsMemory: Bool, _ log: @escaping @Sendable (String) -> Void,
        _ run: @escaping @Sendable (VhostClient) -> Void
    ) throws(Errno) {
        self.path = path
        self.device = device
        self.trustsMemory = trustsMemory
        self.log = log
        wake = try EventCounter()
        let thread = try WorkerThread(name: "vhost-user") { [self] in run(self) }
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
    }

    private func lookAgainAndAgain() {
        // Why it is not there is said once, and anew when it has changed.
        var said: Errno?
        while !state.withLock({ $0.isStopping }) {
            do throws(Errno) {
                let socket = try StreamSocket.connect(path: path, waits: false)
                said = nil
                log("\(path): met a front end")
                try serve(socket)
            } catch {
                if error != said { log("\(path): \(error); it is looked for again") }
                said = error
            }
            _ = try? waitReadable(wake.descriptor.rawValue, milliseconds: Self.pauseMilliseconds)
        }
    }

    private func serve(_ socket: Descriptor) throws(Errno) {
        let connection = try VhostConnection(socket, device, trustsMemory: trustsMemory) { [self] reason in
            log("\(path): refused: \(reason)")
        }
        state.withLock { state in
            state.connection = connection
            if state.isStopping { connection.close() }
        }
        defer { state.withLock { $0.connection = nil } }
        guard case .gone(let reason) = connection.run() else { return }
        log("\(path): the front end is gone\(reason.map { ": \($0)" } ?? "")")
    }
}
