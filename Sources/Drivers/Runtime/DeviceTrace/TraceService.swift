// Where tracers find a backend: a Unix socket that only the backend's own user and root can connect to. One thread,
// asleep unless somebody comes or goes.

import Glibc
import LinuxSystem
import SharedMemory
import Synchronization
import XenTypes

/// A backend's tracing socket.
public final class TraceService: Sendable {
    /// Tracers at once.
    public static let mostTracers = 16
    private let path: String
    private let identity: FileIdentity?
    private let stopper: WakePipe
    private let thread: Mutex<WorkerThread?>

    /// The socket of the backend in `domain`, in a host's run directory.
    public static func path(in runDirectory: String, backend domain: DomainID) -> String { "\(runDirectory)/trace-\(domain).sock" }

    /// Listens at `path`; a socket that is there is replaced: it is a dead backend's, or one's that is about to go.
    /// Records get their dates from `time`.
    public init(path: String, subjects: any TraceSubjects, time: some TimeSource) throws(Errno) {
        self.path = path
        stopper = try WakePipe()
        FileSystem.remove(path)
        let listener = try PacketSocket.listen(path, mode: 0o600)
        identity = FileSystem.identity(of: path)
        let stop = stopper.reader
        thread = Mutex(
            try WorkerThread(name: "trace") { Loop(listener: listener, stop: stop, subjects: subjects, time: time).run() })
    }

    /// Ends every trace and takes the socket back, unless it is a successor's by now.
    public func stop() {
        guard let thread = thread.withLock({ $0.take() }) else { return }
        signalPipe(stopper.writer)
        thread.join()
        if let identity, let now = FileSystem.identity(of: path), identity == now { FileSystem.remove(path) }
    }

    /// One connection.
    private struct Visitor {
        let socket: Descriptor
        /// Nil until it has said what it wants.
        var tap: TraceTap?
    }

    private struct Loop {
        let listener: Descriptor
        let stop: Descriptor
        let subjects: any TraceSubjects
        let time: any TimeSource
        var visitors: [Visitor] = []

        init(listener: Descriptor, stop: Descriptor, subjects: any TraceSubjects, time: any TimeSource) {
            self.time = time
            self.listener = listener
            self.stop = stop
            self.subjects = subjects
        }

        consuming func run() {
            while true {
                // With all places taken, others wait outside.
                let isFull = visitors.count >= TraceService.mostTracers
                var entries = [stop.rawValue, isFull ? -1 : listener.rawValue] + visitors.map(\.socket.rawValue)
                var polled = entries.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
                entries = []
                guard let ready = try? waitForEvents(&polled, milliseconds: -1), ready > 0 else { continue }
                if polled[0].revents != 0 { break }
                for index in visitors.indices.reversed() where polled[index + 2].revents != 0 { serve(index) }
                if polled[1].revents != 0 { accept() }
            }
            for visitor in visitors { if let tap = visitor.tap { subjects.detach(tap) } }
        }

        private mutating func accept() {
            guard let socket = try? PacketSocket.accept(listener) else {
                // Out of descriptors, perhaps: it must not become a busy loop.
                return time.sleep(milliseconds: 10)
            }
            // The socket's mode lets nobody else in; asked all the same.
            guard let user = try? PacketSocket.peerUser(socket), user == 0 || user == geteuid() else { return }
            visitors.append(Visitor(socket: socket))
        }

        /// A first message is a request; anything after it, an end as well, is the end.
        private mutating func serve(_ index: Int) {
            let visitor = visitors[index]
            if visitor.tap == nil, let (message, _) = try? PacketSocket.receive(visitor.socket, descriptors: 0),
                let request = TraceRequest(message), let tap = answer(request, visitor.socket)
            {
                visitors[index].tap = tap
                return
            }
            if let tap = visitor.tap { subjects.detach(tap) }
            visitors.remove(at: index)
        }

        private func answer(_ request: TraceRequest, _ socket: Descriptor) -> TraceTap? {
            let tap: TraceTap
            do throws(Errno) { tap = try TraceTap(capacity: request.capacity, snaplen: request.snaplen, time: self.time) } catch {
                _ = try? PacketSocket.send(socket, TraceAnswer.refused("a buffer of \(request.capacity) bytes: \(error)").bytes)
                return nil
            }
            guard let subject = subjects.attach(tap, to: request) else {
                let name = "\(request.kind) \(request.domain)/\(request.number)"
                _ = try? PacketSocket.send(socket, TraceAnswer.refused("this backend serves no \(name)").bytes)
                return nil
            }
            let answer = TraceAnswer.accepted(subject).bytes
            do throws(Errno) { try PacketSocket.send(socket, answer, [tap.memory.descriptor, tap.wake.reader]) } catch {
                subjects.detach(tap)
                return nil
            }
            return tap
        }
    }
}
