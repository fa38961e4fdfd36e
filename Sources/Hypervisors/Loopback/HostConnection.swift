// What a client's offers, mappings and channels share: the two sockets, the grant table, the runs and the bells. They
// keep it alive; when the last of them goes, the connection closes.

import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import Synchronization
import XenTypes

final class HostConnection: Sendable {
    let domain: DomainID
    let requests: RequestSocket
    let runs = RunCache()
    let table = Mutex(GranterTable())
    /// References of runs given up while mapped, freed when the daemon says that the last mapping has ended.
    let deferred = Mutex<[RunID: [GrantReference]]>([:])
    private let bells = Mutex<[PortID: PeerBell]>([:])
    private let notices: Descriptor

    /// Introduces this process over `socket`.
    init(_ socket: Descriptor, _ role: Role, _ time: any TimeSource) throws(HypervisorError) {
        Signals.ignoreBrokenPipes()
        let requests = try RequestSocket(socket, time)
        (domain, notices) = try requests.ask(.hello(role)) { answer, descriptors in
            guard case .welcome(let domain) = answer, descriptors.count == 1 else { return nil }
            return (domain, descriptors[0])
        }
        self.requests = requests
        requests.accompany(notices)
        let listener = NoticeListener(socket: notices, connection: self, time: time)
        // Nobody joins it: it may itself be the last to let go of this client.
        do throws(Errno) { try startDetachedThread(name: "notices") { listener.run() } } catch {
            throw .system("no room for a thread", doing: "connecting to the daemon")
        }
    }

    deinit { close() }

    /// Ends the connection: the daemon releases everything of it.
    func close() {
        requests.close()
        // Wakes the listener, which ends.
        notices.shutDown()
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
    private let connection: WeakConnection

    private let time: any TimeSource

    init(socket: Descriptor, connection: HostConnection, time: any TimeSource) {
        self.socket = socket
        self.connection = WeakConnection(connection)
        self.time = time
    }

    func run() {
        let reason: String
        do throws(Errno) { reason = try listen() } catch { reason = "the host's notices cannot be heard: \(error)" }
        connection.value?.requests.fail(reason)
    }

    /// Hears notices; returns why there are no more.
    private func listen() throws(Errno) -> String {
        while true {
            let (message, descriptors) = try outlastingShortage(time) { () throws(Errno) in
                try PacketSocket.receive(socket, descriptors: 4)
            }
            guard !message.isEmpty, let connection = connection.value else { return "the host has ended" }
            // A daemon that cannot be understood is none.
            guard let notice = try? Notice.decode(message) else { return "the host's notice makes no sense" }
            connection.handle(notice, descriptors)
        }
    }
}

private final class WeakConnection: Sendable {
    private let reference: Mutex<WeakReference>
    private struct WeakReference: @unchecked Sendable { weak var connection: HostConnection? }
    init(_ connection: HostConnection) { reference = Mutex(WeakReference(connection: connection)) }
    var value: HostConnection? { reference.withLock { $0.connection } }
}

/// The peer's bell, as long as a peer is bound.
final class PeerBell: Sendable {
    private let writer: Mutex<Descriptor?>
    /// Who is told when the peer goes; apart, so that ringing costs no more for it.
    private let watch: Mutex<Watch>

    private struct Watch {
        var isGone = false
        var body: (@Sendable () -> Void)?
    }

    init(_ writer: Descriptor?) {
        self.writer = Mutex(writer)
        watch = Mutex(Watch())
    }

    /// Calls `body` once, when the peer has gone.
    func whenGone(_ body: @escaping @Sendable () -> Void) {
        let isGone = watch.withLock { watch in
            if !watch.isGone { watch.body = body }
            return watch.isGone
        }
        if isGone { body() }
    }

    private func tellGone() {
        let body = watch.withLock { watch in
            watch.isGone = true
            return watch.body.take()
        }
        body?()
    }

    /// One write that never blocks; with nobody there the event is dropped, as Xen does.
    func ring() { writer.withLock { if let writer = $0 { signalPipe(writer) } } }

    /// This side has closed the channel.
    func disconnect() {
        writer.withLock { $0 = nil }
        watch.withLock { $0.body = nil }
    }

    /// Somebody else is there now, or nobody. Whoever is new is rung at once: what was rung since they bound went
    /// elsewhere.
    func connect(_ new: Descriptor?) {
        writer.withLock { writer in
            writer = new
            if let new { signalPipe(new) }
        }
        if new == nil { tellGone() }
    }
}
