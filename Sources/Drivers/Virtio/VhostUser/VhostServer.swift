// A socket that front ends connect to, one after another: a device has one driver. The next one waits in the socket's
// queue until the one before is gone.

import LinuxSystem
import Synchronization

/// Serves one device at one socket, on a thread of its own.
public final class VhostServer: Sendable {
    /// Where it listens.
    public let path: String
    private let listener: Descriptor
    private let device: any VhostDevice
    private let log: @Sendable (String) -> Void
    private let state = Mutex(State())

    private struct State {
        var isStopping = false
        var connection: VhostConnection?
        var thread: WorkerThread?
    }

    /// Listens at `path`; a socket that nobody serves any more is replaced.
    /// - Parameter log: gets a line when a front end comes and goes; from the server's thread.
    public init(path: String, _ device: any VhostDevice, log: @escaping @Sendable (String) -> Void) throws(Errno) {
        if FileSystem.isSocket(path), !StreamSocket.isListening(at: path) { FileSystem.remove(path) }
        listener = try StreamSocket.listen(path: path, backlog: 16, blocks: true)
        self.path = path
        self.device = device
        self.log = log
        let thread: WorkerThread
        do throws(Errno) { thread = try WorkerThread(name: "vhost-user") { [self] in serve() } } catch {
            FileSystem.remove(path)
            throw error
        }
        state.withLock { $0.thread = thread }
    }

    /// Ends the front end's connection, waits until its rings have stopped, and removes the socket.
    public func stop() {
        let thread = state.withLock { state in
            state.isStopping = true
            state.connection?.close()
            defer { state.thread = nil }
            return state.thread
        }
        listener.shutDown()
        thread?.join()
        FileSystem.remove(path)
    }

    private func serve() {
        while !state.withLock({ $0.isStopping }) {
            let socket: Descriptor?
            do throws(Errno) { socket = try StreamSocket.accept(listener) } catch {
                // Ours to end, or out of descriptors: neither is a reason to spin.
                if !state.withLock({ $0.isStopping }) { log("\(path): \(error)") }
                return
            }
            guard let socket else { continue }
            let connection = VhostConnection(socket, device)
            let isStopping = state.withLock { state in
                state.connection = connection
                return state.isStopping
            }
            if isStopping { return }
            log("\(path): a front end connected")
            let reason = connection.run()
            state.withLock { $0.connection = nil }
            log("\(path): the front end is gone\(reason.map { ": \($0)" } ?? "")")
        }
    }
}
