// The store server without its sockets: bytes in, bytes out, time given. The daemon's thread, the tests and the fuzzer
// drive the same code. Not thread-safe; whoever owns it serializes.

import XenStore
import XenTypes

/// A store: tree, domains, connections, transactions, watches.
///
/// Drive it so: `connect` for each peer; `feed` what it sends; send what `output` has and say so with `didSend`; close
/// what `takeDropped` names; call `service` again when it says that work is left or that `nextDeadline` has come.
public struct StoreCore: ~Copyable {
    var limits: StoreLimits
    var tree = StoreTree()
    var watches = WatchTable()
    var connections: [StoreConnectionID: ServedConnection] = [:]
    var domains: [DomainID: ServedDomain] = [.zero: ServedDomain(isIntroduced: true)]
    var specialPermissions: [StorePath: [StorePermission]] = [
        .introduceDomain: [StorePermission(.none, .zero)], .releaseDomain: [StorePermission(.none, .zero)],
    ]
    private var lastConnection: UInt64 = 0
    private var dropped: [(StoreConnectionID, String)] = []
    /// Connections with output, so that the owner need not ask each.
    private(set) var unsent: Set<StoreConnectionID> = []

    /// A store with nothing in it but what xenstored starts with.
    public init(limits: StoreLimits = StoreLimits()) { self.limits = limits }

    // MARK: Connections

    /// Admits a peer as `domain`; what it may do follows from that alone, never from what it says.
    public mutating func connect(domain: DomainID) -> StoreConnectionID {
        lastConnection += 1
        let id = StoreConnectionID(number: lastConnection)
        connections[id] = ServedConnection(domain: domain)
        know(domain)
        domains[domain]?.connections.insert(id)
        return id
    }

    /// Whose a connection is; nil: there is none of the kind.
    func domain(of id: StoreConnectionID) -> DomainID? { connections[id]?.domain }

    /// Forgets a peer with its watches and transactions. What it wrote stays; its domain lives on.
    public mutating func disconnect(_ id: StoreConnectionID) {
        guard connections[id] != nil else { return }
        dropTransactions(of: id)
        dropWatches(of: id)
        guard let connection = connections.removeValue(forKey: id) else { return }
        domains[connection.domain]?.connections.remove(id)
        unsent.remove(id)
    }

    /// Ends a connection from this side; the owner learns of it through `takeDropped`.
    mutating func drop(_ id: StoreConnectionID, _ reason: String) {
        guard connections[id] != nil else { return }
        disconnect(id)
        dropped.append((id, reason))
    }

    /// The connections that were ended for their behaviour or their domain's death since the last call, with the
    /// reason.
    public mutating func takeDropped() -> [(connection: StoreConnectionID, reason: String)] {
        defer { dropped.removeAll() }
        return dropped.map { (connection: $0.0, reason: $0.1) }
    }

    // MARK: Bytes

    /// Takes in bytes of a peer and serves what is complete, a few requests at most; `service` does the rest.
    public mutating func feed(_ bytes: some Collection<UInt8>, from id: StoreConnectionID, now: UInt64, budget: Int = 16) {
        connections[id]?.parser.append(bytes)
        _ = service(id, now: now, budget: budget)
    }

    /// Whether to read more from the peer: not while a whole request waits, so that a flood fills the peer's socket,
    /// not us.
    public func wantsInput(_ id: StoreConnectionID) -> Bool { connections[id].map { !$0.parser.isReady } ?? false }

    /// Serves waiting requests of one connection, at most `budget`, so that a busy peer delays another by no more than
    /// that. True if requests are left that could be served at once.
    public mutating func service(_ id: StoreConnectionID, now: UInt64, budget: Int = 16) -> Bool {
        for _ in 0..<budget {
            guard mayServe(id, now: now) else { return false }
            do {
                guard let message = try connections[id]?.parser.next() else { return false }
                handle(message, from: id, now: now)
            } catch {
                drop(id, "a message of \(error.length) bytes, more than \(StoreWire.payloadMax)")
                return false
            }
        }
        return mayServe(id, now: now) && isStalled(id)
    }

    /// Whether a whole request waits: for its turn, for time to pass, or for earlier replies to be read.
    public func isStalled(_ id: StoreConnectionID) -> Bool { connections[id]?.parser.isReady ?? false }

    /// When the first held domain may go on, in the clock of `now`; nil: none is held.
    public func nextDeadline(now: UInt64) -> UInt64? {
        domains.values.lazy.map(\.heldUntil).filter { $0 > now }.min()
    }

    func mayServe(_ id: StoreConnectionID, now: UInt64) -> Bool {
        guard let domain = connections[id]?.domain, let unread = connections[id]?.output.byteCount else { return false }
        return unread < limits.outputSoft && (domains[domain]?.heldUntil ?? 0) <= now
    }

    /// The next bytes to send to a peer, at most about `limit`; empty: nothing.
    public func output(_ id: StoreConnectionID, limit: Int = 65536) -> [UInt8] { connections[id]?.output.front(limit) ?? [] }

    /// Says that `count` bytes of `output` were sent.
    public mutating func didSend(_ count: Int, to id: StoreConnectionID) {
        connections[id]?.output.sent(count)
        if connections[id]?.output.isEmpty ?? true { unsent.remove(id) }
    }

    /// The connections that have output.
    public var connectionsWithOutput: [StoreConnectionID] { Array(unsent) }

    mutating func reply(_ message: StoreMessage, to id: StoreConnectionID) {
        connections[id]?.output.reply(message)
        unsent.insert(id)
        dropIfUnread(id)
    }

    mutating func sendEvent(path: String, token: [UInt8], to id: StoreConnectionID) {
        guard connections[id] != nil else { return }
        connections[id]?.output.event(path: path, token: token)
        unsent.insert(id)
        dropIfUnread(id)
    }

    private mutating func dropIfUnread(_ id: StoreConnectionID) {
        guard let domain = connections[id]?.domain, let unread = connections[id]?.output.byteCount else { return }
        if unread > (domain == .zero ? limits.outputHardPrivileged : limits.outputHard) { drop(id, "\(unread) bytes unread") }
    }

    // MARK: Accounts

    /// What `domain` holds.
    public func usage(of domain: DomainID) -> StoreUsage {
        var usage = StoreUsage()
        let account = tree.account(domain)
        usage.nodes = account.nodes
        usage.memory = account.bytes + (domains[domain]?.heldBytes ?? 0)
        usage.watches = domains[domain]?.watches ?? 0
        usage.transactions = domains[domain]?.transactions ?? 0
        usage.connections = domains[domain]?.connections.count ?? 0
        return usage
    }

    /// What all domains hold together.
    public func usage() -> StoreUsage {
        Set(domains.keys).union(tree.owners).reduce(StoreUsage()) { $0 + usage(of: $1) }
    }
}
