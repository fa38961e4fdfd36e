// What one store serves to whom: xenstored's quotas, with its defaults.

/// Bounds on what unprivileged domains may hold, each per domain unless it says otherwise. Domain 0 is not bound by the
/// quotas.
public struct StoreLimits: Hashable, Sendable {
    /// Nodes owned.
    public var nodes = 1000
    /// Watches on all the domain's connections.
    public var watches = 128
    /// One node's size in bytes, as xenstored reckons it: 24, eight for each permission, the value, the children's
    /// names and NULs.
    public var nodeSize = 2048
    /// Entries in one node's permissions.
    public var permissions = 5
    /// Transactions open at once.
    public var transactions = 10
    /// Nodes that one transaction may touch.
    public var transactionNodes = 1024
    /// Bytes held for the domain: nodes, watches, and copies in transactions.
    public var memory = 2560 * 1024
    /// Bytes of unread replies and events at which a connection's requests wait; for every connection, domain 0's too.
    public var outputSoft = 64 * 1024
    /// Bytes of unread output at which an unprivileged connection is dropped.
    public var outputHard = 1024 * 1024
    /// The same for a privileged connection.
    public var outputHardPrivileged = 16 * 1024 * 1024
    /// Connections open at once in the whole server; more are refused at accept.
    public var connections = 16384
    /// Nanoseconds that a domain's requests wait after its writes made a privileged transaction fail; doubles on
    /// repetition, up to sixteen times (attacks.md XS4).
    public var conflictHold: UInt64 = 20_000_000

    /// xenstored's defaults.
    public init() {}
}

/// What a domain or the whole server holds at one moment.
public struct StoreUsage: Hashable, Sendable, CustomStringConvertible {
    /// Nodes owned.
    public var nodes = 0
    /// Watches registered.
    public var watches = 0
    /// Transactions open.
    public var transactions = 0
    /// Connections open.
    public var connections = 0
    /// Bytes held in nodes, watches and transactions.
    public var memory = 0

    /// Nothing held.
    public init() {}

    /// `nodes 3, watches 1, transactions 0, connections 1, memory 120`.
    public var description: String {
        "nodes \(nodes), watches \(watches), transactions \(transactions), connections \(connections), memory \(memory)"
    }

    static func + (a: Self, b: Self) -> Self {
        var sum = a
        sum.nodes += b.nodes
        sum.watches += b.watches
        sum.transactions += b.transactions
        sum.connections += b.connections
        sum.memory += b.memory
        return sum
    }
}
