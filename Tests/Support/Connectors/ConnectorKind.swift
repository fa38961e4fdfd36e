// A device under a connector: what a test body does with it is the same, whichever carries it.

import Testing

/// What carries a device to its driver.
package enum ConnectorKind: String, CaseIterable, Sendable, CustomTestStringConvertible {
    /// Xen's rings, pages and store, over the in-process hypervisor.
    case xen = "Xen PV"
    /// Messages on a socket, memory by descriptor.
    case vhostUser = "vhost-user"
    /// A bus and its verbs in this process.
    case inProcess = "in process"

    package var testDescription: String { rawValue }
}

/// What a test looked for and did not find.
package struct ConnectorTrouble: Error, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}
