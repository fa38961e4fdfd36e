// What whoever is on a test's host holds, and this process with them: to be held against itself before and after.

import HypervisorRules
import LinuxSystem
import SharedMemory
import TestSupport
import XenStoreServer

/// What is held by anybody, at one moment.
public struct HeldResources: Equatable, CustomStringConvertible {
    private let usage: HypervisorUsage
    /// Nodes apart: those of the last connection stay.
    private let watches, transactions, connections: Int
    private let descriptors: Int
    private let regions: Int

    /// What is held now.
    public init(_ host: TestHost) {
        usage = host.usage
        let store = host.store.usage()
        (watches, transactions, connections) = (store.watches, store.transactions, store.connections)
        descriptors = Descriptor.openCount
        regions = SharedRegion.liveCount
    }

    /// What is held once whatever is on its way to be given back has been.
    public static func settled(_ host: TestHost) -> HeldResources {
        var last = HeldResources(host)
        _ = eventually {
            sleepMilliseconds(100)
            defer { last = HeldResources(host) }
            return HeldResources(host) == last
        }
        return last
    }

    /// One line with every counter.
    public var description: String {
        "\(usage), \(watches) watches, \(transactions) transactions, \(connections) connections, \(descriptors) descriptors, "
            + "\(regions) regions"
    }
}
