// What is in use on a loopback host, as its daemon counts it.

import CommandSupport
import HypervisorRules
import LinuxSystem

/// One domain's, or the whole host's.
struct HostCounters {
    /// Nil: the host as a whole.
    let domain: String?
    let counters: [Counter]

    /// One number, and what it is, in one sentence.
    struct Counter {
        let name: String
        let meaning: String
        let count: Int

        init(_ name: String, _ count: Int, _ meaning: String) {
            self.name = name
            self.meaning = meaning
            self.count = count
        }
    }

    /// The host's, then each domain's.
    /// - Parameter mayBeNone: whether it is all right that no daemon is there: on a real Xen there is none.
    static func all(of directory: RunDirectory, mayBeNone: Bool = false) throws(Failure) -> [HostCounters] {
        if mayBeNone, !FileSystem.isSocket(directory.hypervisorSocket) { return [] }
        return try HostControl.usage(of: directory).map { usage in
            HostCounters(domain: usage.domain.map(\.description), counters: counters(usage))
        }
    }

    /// Without the connections: the command that asks is one of them.
    private static func counters(_ usage: HostUsage) -> [Counter] {
        let (hypervisor, store) = (usage.hypervisor, usage.store)
        var list = [
            Counter("domains", hypervisor.domains, "Domains that exist."),
            Counter("grants", hypervisor.grants, "Entries of grant tables that permit access."),
            Counter("mappings", hypervisor.mappings, "Grants that are mapped."),
            Counter("ports", hypervisor.ports, "Event channel ports."),
            Counter("runs", hypervisor.runs, "Runs of shared memory."),
            Counter("pages", hypervisor.pages, "Pages of shared memory."),
            Counter("deferred", hypervisor.deferred, "Runs that their owner gave up and a peer still maps."),
            Counter("dying", hypervisor.dying, "Connections whose resources are being released."),
            Counter("nodes", store.nodes, "Nodes in the store."),
            Counter("watches", store.watches, "Watches on the store."),
            Counter("transactions", store.transactions, "Transactions that are open."),
        ]
        // The daemon's own, so of the host as a whole.
        if usage.domain == nil { list.append(Counter("descriptors", store.descriptors, "File descriptors of the daemon.")) }
        return list
    }
}
