// The client's half: a domain's process on a host with the daemon.

import Hypervisor
import HypervisorCore
import LinuxSystem
import SharedMemory
import XenStore
import XenWire

/// One process's connection to the loopback daemon. Thread-safe. Closed, with everything that was offered, mapped and bound over
/// it, when it and all of that is released, or when `disconnect` is called, or by the kernel when the process dies.
public final class LoopbackHypervisor: Hypervisor {
    let core: ClientCore
    /// See `Hypervisor.domain`.
    public var domain: DomainID { core.domain }

    /// Speaks over a socket that was handed to this process; the socket decides which domain it is.
    public init(socket: Descriptor) throws(HypervisorError) { core = try ClientCore(socket, .given) }

    /// Connects as `domain`, which must exist. Allowed to the daemon's own user and root, and to the user that the domain was
    /// made for.
    public convenience init(runDirectory: String, domain: DomainID) throws(HypervisorError) {
        try self.init(ClientCore(connectSocket(runDirectory), .domain(domain)))
    }

    /// The same, for callers that read better with a verb.
    public static func connect(runDirectory: String, domain: DomainID) throws(HypervisorError) -> LoopbackHypervisor {
        try LoopbackHypervisor(runDirectory: runDirectory, domain: domain)
    }

    private init(_ core: ClientCore) { self.core = core }

    /// Ends the connection at once.
    public func disconnect() { core.close() }

    /// What this domain has in use, of all its processes; for a report of need against limits.
    public func usage() throws(HypervisorError) -> HypervisorUsage {
        try core.requests.ask(.usage(domain)) { answer, _ in
            guard case .usage(let usage) = answer else { return nil }
            return usage
        }
    }

    /// How many of the peers' runs this process keeps mapped.
    public var cachedRuns: Int { core.runs.count }

    /// See `Hypervisor.connectStore`.
    public func connectStore() throws(HypervisorError) -> StoreClient {
        let socket: Descriptor = try core.requests.ask(.connectStore) { answer, descriptors in
            guard case .done = answer, descriptors.count == 1 else { return nil }
            return descriptors[0]
        }
        do throws(StoreError) { return try StoreClient(descriptor: socket) } catch {
            throw .disconnected("the store: \(error)")
        }
    }

    // MARK: Event channels

    /// See `Hypervisor.allocateChannel`.
    public func allocateChannel(for remote: DomainID) throws(HypervisorError) -> any EventChannel {
        try core.requests.ask(.allocatePort(remote: remote)) { answer, descriptors in
            guard case .port(let id, let port) = answer, descriptors.count == 1 else { return nil }
            return LoopbackChannel(core, id, port, bell: descriptors[0], peer: nil)
        }
    }

    /// See `Hypervisor.bindChannel`.
    public func bindChannel(remote: DomainID, port: EventPort) throws(HypervisorError) -> any EventChannel {
        try core.requests.ask(.bindPort(remote: remote, port: port)) { answer, descriptors in
            guard case .port(let id, let port) = answer, descriptors.count == 2 else { return nil }
            return LoopbackChannel(core, id, port, bell: descriptors[0], peer: descriptors[1])
        }
    }
}

func connectSocket(_ runDirectory: String) throws(HypervisorError) -> Descriptor {
    let path = LoopbackHost.socketPath(in: runDirectory)
    return try describing("connecting to \(path)") { () throws(Errno) in try PacketSocket.connect(path) }
}
