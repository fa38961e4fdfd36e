// An NBD server for a frontend's disk: one thread, on which the disk's queue, the listener and all clients are. It
// makes no thread for a request, and a client that hangs up is missed by nobody.

import BlockFrontend
import BlockProtocol
import LinuxSystem
import Reactor
import Synchronization

/// Serves one disk to NBD clients.
public final class NBDServer: @unchecked Sendable {
    /// Clients at the same time; what comes beyond waits to be accepted.
    public static let mostClients = 16
    /// Pages of the frontend's buffer that a server needs at least: a client's share then holds a part of a sector of
    /// 64 KiB, the largest that a backend may have, beside what was there before.
    public static let leastBufferPages = 1024

    /// How a server is told apart from others, and what it tells.
    public struct Options: Sendable {
        /// The export's name; the empty one is the disk's, too.
        public var name = ""
        /// A line for people.
        public var description = ""
        /// In which a client must have chosen an export, seconds.
        public var handshakeSeconds: UInt64 = 10
        /// A client has come (true) or gone, on the server's thread.
        public var used: @Sendable (Bool) -> Void = { _ in }

        /// A disk without a name.
        public init() {}
    }

    // SAFETY: everything below is the reactor's thread's from `start` on; before it there is no other thread, and
    // `stop` comes after its end.
    private let reactor: Reactor
    private let options: Options
    private var disk: ServedDisk?
    private var listeners: [NBDListener] = []
    private var sessions: [ObjectIdentifier: NBDSession] = [:]
    private let clients = Atomic<Int>(0)
    private let isStopped = Atomic<Bool>(false)

    /// A server on a reactor that has not been started.
    public init(on reactor: Reactor, _ options: Options = Options()) {
        // A client that is gone is an error of the write to it, and not this program's end.
        Signals.ignoreBrokenPipes()
        self.reactor = reactor
        self.options = options
    }

    /// Clients that have chosen an export and not gone.
    public var clientCount: Int { clients.load(ordering: .relaxed) }

    /// Serves from here on.
    /// - Parameters:
    ///   - queue: the frontend's first.
    ///   - listeners: sockets that listen.
    public func start(_ queue: consuming sending BlockQueue, _ listeners: [Descriptor]) throws(ReactorError) {
        let disk = ServedDisk(queue, on: reactor)
        self.disk = disk
        self.listeners = listeners.map { NBDListener($0, of: self, on: reactor) }
        try reactor.start()
        reactor.post { [self] in
            self.disk?.attach()
            for listener in self.listeners { listener.attach() }
        }
    }

    /// Accepts nobody any more, answers what clients have asked, at most for so long, and ends.
    public func stop(milliseconds: Int) {
        // A second time there is no thread to ask, and nothing left.
        guard !isStopped.exchange(true, ordering: .relaxed) else { return }
        let end = reactor.time.milliseconds + Int64(milliseconds)
        reactor.run { [self] in
            for listener in listeners { listener.close() }
            for session in sessions.values { session.leave() }
        }
        while reactor.time.milliseconds < end, reactor.run({ [self] in !sessions.isEmpty }) { reactor.time.sleep(milliseconds: 2) }
        reactor.run { [self] in for session in sessions.values { session.end() } }
        reactor.stop()
        // Each of them refers to the others.
        for session in sessions.values {
            session.abandon()
            if session.isCounted { options.used(false) }
        }
        sessions = [:]
        listeners = []
        disk?.abandon()
        disk = nil
    }

    /// Serves a client whose socket came otherwise than by a listener.
    package func adopt(_ socket: Descriptor) { reactor.run { [self] in accepted(socket) } }

    /// What is held at this moment.
    func census() -> Census {
        reactor.run { [self] in
            Census(
                sessions: sessions.count, freePages: disk?.freePages ?? 0, writes: disk?.writesInFlight ?? 0,
                flights: disk?.flights.count { $0 != nil } ?? 0)
        }
    }

    struct Census: Sendable {
        var sessions: Int
        var freePages: Int
        var writes: Int
        var flights: Int
    }

    // MARK: On the reactor's thread

    var handshakeMicroseconds: UInt64 { options.handshakeSeconds * 1_000_000 }
    var hasRoom: Bool { sessions.count < Self.mostClients }

    func accepted(_ socket: Descriptor) {
        guard let disk, let session = NBDSession(socket, of: self, on: disk) else { return }
        sessions[ObjectIdentifier(session)] = session
        session.attach()
    }

    func began(_ session: NBDSession) {
        clients.wrappingAdd(1, ordering: .relaxed)
        session.isCounted = true
        options.used(true)
    }

    func forget(_ session: NBDSession) {
        sessions[ObjectIdentifier(session)] = nil
        for listener in listeners { listener.listen() }
        guard session.isCounted else { return }
        clients.wrappingSubtract(1, ordering: .relaxed)
        options.used(false)
    }

    /// What clients are told of a disk.
    func exports(of disk: ServedDisk) -> [NBDExport] {
        let properties = disk.properties
        var flags: NBDTransmissionFlags = [.hasFlags, .flush, .durableWrites, .dontFragment, .multipleConnections]
        if properties.info.contains(.readOnly) {
            flags.insert(.readOnly)
        } else {
            flags.formUnion([.writeZeroes, .fastZero])
            if properties.discard != nil { flags.insert(.trim) }
        }
        return [
            NBDExport(
                name: options.name, description: options.description, byteCount: disk.byteCount, flags: flags,
                preferredBlock: max(4096, properties.physicalSectorSize), largestTransfer: NBDSession.mostTransferBytes)
        ]
    }
}
