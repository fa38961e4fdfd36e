// What a client's offers, mappings and channels share: the two sockets, the grant table, the runs and the bells. They keep it
// alive; when the last of them goes, the connection closes.

import Glibc
import Hypervisor
import HypervisorCore
import LinuxSystem
import SharedMemory
import Synchronization
import XenWire

final class ClientCore: Sendable {
    let domain: DomainID
    let requests: RequestSocket
    let runs = RunCache()
    let table = Mutex(GranterTable())
    /// References of runs given up while mapped, freed when the daemon says that the last mapping has ended.
    let deferred = Mutex<[RunID: [GrantReference]]>([:])
    private let bells = Mutex<[PortID: PeerBell]>([:])
    private let notices: Descriptor

    /// Introduces this process over `socket`.
    init(_ socket: Descriptor, _ role: Role) throws(HypervisorError) {
        ignoreBrokenPipes()
        let requests = try RequestSocket(socket)
        (domain, notices) = try requests.ask(.hello(role)) { answer, descriptors in
            guard case .welcome(let domain) = answer, descriptors.count == 1 else { return nil }
            return (domain, descriptors[0])
        }
        self.requests = requests
        let listener = NoticeListener(socket: notices, core: self)
        guard startThread({ listener.run() }) else {
            throw .system("no room for a thread", doing: "connecting to the daemon")
        }
    }

    deinit { close() }

    /// Ends the connection: the daemon releases everything of it.
    func close() {
        requests.close()
        // Wakes the listener, which ends.
        shutdown(notices.rawValue, Int32(SHUT_RDWR))
    }

    func register(_ bell: PeerBell, _ port: PortID) { bells.withLock { $0[port] = bell } }
    func forget(_ port: PortID) { bells.withLock { $0[port] = nil } }

    func handle(_ notice: Notice, _ descriptors: [Descriptor]) {
        switch notice {
        case .runGone(let run): runs.drop(run)
        case .runEnded(let run):
            let references = deferred.withLock { $0.removeValue(forKey: run) } ?? []
            table.withLock { table in for reference in references { _ = table.end(reference) } }
        case .portBound(let port):
            // The request that made the port may not have been answered yet: look only when none is under way.
            requests.whileIdle { bells.withLock { $0[port] }?.connect(descriptors.first) }
        case .portUnbound(let port):
            requests.whileIdle { bells.withLock { $0[port] }?.connect(nil) }
        }
    }
}

/// The thread that hears the daemon. Holds the client weakly: it must not keep it alive.
private final class NoticeListener: Sendable {
    private let socket: Descriptor
    private let core: WeakCore

    init(socket: Descriptor, core: ClientCore) {
        self.socket = socket
        self.core = WeakCore(core)
    }

    func run() {
        while let (message, descriptors) = try? PacketSocket.receive(socket, descriptors: 4), !message.isEmpty,
            let core = core.value
        {
            // A daemon that cannot be understood is none.
            guard let notice = try? Notice.decode(message) else { return core.close() }
            core.handle(notice, descriptors)
        }
    }
}

private final class WeakCore: Sendable {
    private let reference: Mutex<WeakReference>
    private struct WeakReference: @unchecked Sendable { weak var core: ClientCore? }
    init(_ core: ClientCore) { reference = Mutex(WeakReference(core: core)) }
    var value: ClientCore? { reference.withLock { $0.core } }
}

/// The peer's bell, as long as a peer is bound.
final class PeerBell: Sendable {
    private let writer: Mutex<Descriptor?>

    init(_ writer: Descriptor?) { self.writer = Mutex(writer) }

    /// One write that never blocks; with nobody there the event is dropped, as Xen does.
    func ring() { writer.withLock { if let writer = $0 { signalPipe(writer) } } }

    /// This side has closed the channel.
    func disconnect() { writer.withLock { $0 = nil } }

    /// Somebody else is there now, or nobody. Whoever is new is rung at once: what was rung since they bound went elsewhere.
    func connect(_ new: Descriptor?) {
        writer.withLock { writer in
            writer = new
            if let new { signalPipe(new) }
        }
    }
}
