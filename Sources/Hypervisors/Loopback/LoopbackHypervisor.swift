// The client's half: a domain's process on a host with the daemon.

import Hypervisor
import HypervisorRules
import LinuxSystem
import SharedMemory
import XenStore
import XenTypes

/// One process's connection to the loopback daemon. Thread-safe. Closed, with everything that was offered, mapped and
/// bound over it, when it and all of that is released, or when `disconnect` is called, or by the kernel when the
/// process dies.
public final class LoopbackHypervisor: Hypervisor {
    let connection: HostConnection
    /// See `Hypervisor.domain`.
    public var domain: DomainID { connection.domain }
    /// See `Hypervisor.time`.
    public let time: any TimeSource

    /// Speaks over a socket that was handed to this process; the socket decides which domain it is.
    public convenience init(socket: Descriptor, time: some TimeSource) throws(HypervisorError) {
        try self.init(HostConnection(socket, .given, time), time)
    }

    /// Connects as `domain`, which must exist. Allowed to the daemon's own user and root, and to the user that the
    /// domain was made for.
    public convenience init(runDirectory: String, domain: DomainID, time: some TimeSource) throws(HypervisorError) {
        try self.init(HostConnection(connectSocket(runDirectory), .domain(domain), time), time)
    }

    /// The same, for callers that read better with a verb.
    public static func connect(
        runDirectory: String, domain: DomainID, time: some TimeSource
    ) throws(HypervisorError) -> LoopbackHypervisor {
        try LoopbackHypervisor(runDirectory: runDirectory, domain: domain, time: time)
    }

    /// A socket to the daemon in `runDirectory`, for `init(connected:domain:time:)`: the daemon goes by who opened it.
    public static func openSocket(runDirectory: String) throws(HypervisorError) -> Descriptor { try connectSocket(runDirectory) }

    /// Connects as `domain` over a socket that `openSocket` has opened: for a process that gave up, in between, what
    /// takes it there. The socket is that domain's from here on, and no other's.
    public convenience init(connected socket: Descriptor, domain: DomainID, time: some TimeSource) throws(HypervisorError) {
        try self.init(HostConnection(socket, .domain(domain), time), time)
    }

    private init(_ connection: HostConnection, _ time: any TimeSource) {
        self.connection = connection
        self.time = time
    }

    /// Ends the connection at once.
    public func disconnect() { connection.close() }

    /// What this domain has in use, of all its processes; for a report of need against limits.
    public func usage() throws(HypervisorError) -> HypervisorUsage {
        try connection.requests.ask(.usage(domain)) { answer, _ in
            guard case .usage(let usage) = answer else { return nil }
            return usage
        }
    }

    /// How many of the peers' runs this process keeps mapped.
    public var cachedRuns: Int { connection.runs.count }

    /// See `Hypervisor.loss`.
    public var loss: String? { connection.requests.broken }

    /// See `Hypervisor.connectStore`.
    public func connectStore() throws(HypervisorError) -> StoreClient {
        let socket: Descriptor = try connection.requests.ask(.connectStore) { answer, descriptors in
            guard case .done = answer, descriptors.count == 1 else { return nil }
            return descriptors[0]
        }
        connection.requests.accompany(socket)
        do throws(StoreError) { return try StoreClient(descriptor: socket, time: time) } catch {
            throw .disconnected("the store: \(error)")
        }
    }

    // MARK: Event channels

    /// See `Hypervisor.allocateChannel`.
    public func allocateChannel(for remote: DomainID) throws(HypervisorError) -> any EventChannel {
        try connection.requests.ask(.allocatePort(remote: remote)) { answer, descriptors in
            guard case .port(let id, let port) = answer, descriptors.count == 1 else { return nil }
            return LoopbackChannel(connection, id, port, bell: descriptors[0], peer: nil)
        }
    }

    /// See `Hypervisor.bindChannel`.
    public func bindChannel(remote: DomainID, port: EventPort) throws(HypervisorError) -> any EventChannel {
        try connection.requests.ask(.bindPort(remote: remote, port: port)) { answer, descriptors in
            guard case .port(let id, let port) = answer, descriptors.count == 2 else { return nil }
            return LoopbackChannel(connection, id, port, bell: descriptors[0], peer: descriptors[1])
        }
    }
}

func connectSocket(_ runDirectory: String) throws(HypervisorError) -> Descriptor {
    let path = LoopbackHost.socketPath(in: runDirectory)
    do throws(Errno) { return try PacketSocket.connect(path) } catch {
        throw .system(LoopbackHost.silence(error), doing: path)
    }
}
