// The store server: a `StoreCore` behind sockets, one thread, one lock.

import LinuxSystem
import Synchronization
import XenStore
import XenTypes

/// Serves a store to the host's tools (domain 0) and to domains. Every call may come from any thread.
public final class StoreServer: Sendable {
    private let shared: StoreServerLoop
    private let thread = Mutex<WorkerThread?>(nil)
    private let time: any TimeSource

    /// A store with nothing in it; it serves once `start` was called.
    public init(limits: StoreLimits = StoreLimits(), time: some TimeSource) {
        self.time = time
        shared = StoreServerLoop(limits: limits, time: time)
    }

    deinit { stop() }

    /// Starts the serving thread.
    public func start() throws(StoreError) {
        let shared = shared
        do {
            try shared.prepare()
            let started = try WorkerThread(name: "xenstored", blocksSignals: true) { shared.run() }
            thread.withLock { $0 = started }
        } catch {
            throw .disconnected("cannot start the store server: \(error)")
        }
    }

    /// Ends the thread, closes every connection and removes the listening socket's file. The store's content is gone
    /// with it.
    public func stop() {
        shared.requestStop()
        let running = thread.withLock { $0.take() }
        running?.join()
        shared.closeAll()
    }

    /// Listens for the host's tools on a Unix socket: mode 0600, whoever connects is domain 0. A socket file that
    /// nobody serves any more is replaced.
    public func listen(onPath path: String) throws(StoreError) {
        do { shared.add(try StoreListener.open(path, domain: .zero)) } catch {
            throw .disconnected("cannot listen on \(path): \(error)")
        }
    }

    /// Listens for the programs of one domain, until `stopListening`: whoever connects is that domain.
    /// - Parameters:
    ///   - user: may connect, beside the superuser and this process's user; the socket's file is this user's.
    ///   - mostConnections: how many connections the domain may have, however they came about.
    public func listen(
        onPath path: String, domain: DomainID, user: UInt32?, mostConnections: Int
    ) throws(StoreError) {
        do {
            shared.add(try StoreListener.open(path, domain: domain, user: user, mostConnections: mostConnections))
        } catch { throw .disconnected("cannot listen on \(path): \(error)") }
    }

    /// Listens there no longer, and removes the socket's file; connections stay.
    public func stopListening(onPath path: String) {
        let removed = shared.mutate { state in
            let index = state.listeners.firstIndex { $0.path == path }
            return index.map { state.listeners.remove(at: $0) }
        }
        if removed != nil { FileSystem.remove(path) }
    }

    /// A node's value, as the host sees it; nil: there is no such node.
    public func value(at path: String) -> String? {
        shared.inspect { state in
            guard let path = StorePath(path), let node = state.core.tree[path] else { return nil }
            return String(decoding: node.value, as: UTF8.self)
        }
    }

    /// Serves a domain over a stream socket that is already connected. Its rights are those of `domain`.
    @discardableResult
    public func attach(descriptor: Descriptor, domain: DomainID) -> StoreConnectionID {
        shared.mutate { state in
            let id = state.core.connect(domain: domain)
            state.sockets[id] = descriptor
            return id
        }
    }

    /// Whether one more connection of a domain is within its share: as many as it leaves to the others.
    public func hasRoom(for domain: DomainID) -> Bool { shared.inspect { $0.hasRoom(for: domain) } }

    /// A client of this server in the same process, over a socket pair.
    public func connectInProcess(domain: DomainID) throws(StoreError) -> StoreClient {
        let ends: (Descriptor, Descriptor)
        do { ends = try StreamSocket.pair() } catch { throw .disconnected("no socket pair: \(error)") }
        attach(descriptor: ends.0, domain: domain)
        return try StoreClient(descriptor: ends.1, time: time)
    }

    /// A client of a server that was not started: whoever asks serves the request, too, and events come with the next
    /// call.
    package func connectOnCallersThread(domain: DomainID) throws(StoreError) -> StoreClient {
        try StoreClient(line: StoreCallerLine(shared, domain: domain, time: time), time: time)
    }

    /// Notes that a domain is ready and fires `@introduceDomain`.
    public func introduceDomain(_ domain: DomainID) { shared.mutate { $0.core.introduceDomain(domain) } }

    /// Fires `@releaseDomain` once for a domain that has shut down but is not gone.
    public func domainShutDown(_ domain: DomainID) { shared.mutate { $0.core.domainShutDown(domain) } }

    /// Ends a domain's connections with their watches and transactions, and keeps its nodes: for a process that will
    /// return.
    public func disconnect(domain: DomainID) { shared.mutate { $0.core.disconnectAll(of: domain) } }

    /// Ends a domain for good: connections, watches, transactions, the nodes it owns and every right given to it go;
    /// `@releaseDomain` fires.
    public func domainDied(_ domain: DomainID) { shared.mutate { $0.core.domainDied(domain) } }

    /// What one domain holds.
    public func usage(of domain: DomainID) -> StoreUsage { shared.inspect { $0.core.usage(of: domain) } }

    /// What all hold together.
    public func usage() -> StoreUsage { shared.inspect { $0.core.usage() } }

    /// Every fault a walk through the whole store finds; empty if it is sound.
    public func checkInvariants() -> [String] { shared.inspect { $0.core.checkInvariants() } }
}
