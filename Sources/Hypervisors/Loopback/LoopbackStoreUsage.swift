// What a domain, or the whole host, holds of the store and of the daemon.

import LinuxSystem
import XenStoreServer

/// Counters beside the hypervisor's own.
public struct LoopbackStoreUsage: Hashable, Sendable {
    /// Nodes owned.
    public var nodes = 0
    /// Watches registered.
    public var watches = 0
    /// Transactions open.
    public var transactions = 0
    /// Store connections open.
    public var connections = 0
    /// The daemon's own descriptors, whoever they are for.
    public var descriptors = 0

    /// Nothing held.
    public init() {}

    init(_ usage: StoreUsage) {
        nodes = usage.nodes
        watches = usage.watches
        transactions = usage.transactions
        connections = usage.connections
        descriptors = Descriptor.openCount
    }

    /// In the order of the wire.
    static var fields: [WritableKeyPath<LoopbackStoreUsage, Int>] {
        [\.nodes, \.watches, \.transactions, \.connections, \.descriptors]
    }
}
