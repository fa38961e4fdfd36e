// The rows of a virtio device in the table of interrupts: one for each ring, which leads to the eventfd that the driver
// gave for it. A ring keeps its line and raises it; where it leads is changed beside it, and nothing is lost between
// the one and the other.

import Interrupts
import LinuxSystem

/// A device's interrupts. Any thread.
package final class RingVectors: Sendable {
    private let vectors: InterruptVectors
    private let source: InterruptSource
    private let table: InterruptTable

    /// Rows that lead nowhere yet.
    /// - Parameters:
    ///   - device: whose they are, in faults.
    ///   - rings: 1 to 256, a row each.
    package init(device: String, rings: Int) {
        let count = max(1, min(rings, InterruptTable.mostVectors))
        // A table of its own: it is empty, and has room for as many as a device may have.
        table = InterruptTable(capacity: 2 * InterruptTable.mostVectors)
        guard let made = try? table.attach(device: device, vectors: count) else {
            preconditionFailure("an empty table has no room for \(count) vectors")
        }
        (vectors, source) = made
    }

    /// What a ring raises; of one that there is not, nobody is told.
    package func line(_ ring: Int) -> InterruptLine? { UInt32(exactly: ring).flatMap { try? source.line($0) } }

    /// Leads a ring's interrupts to a descriptor; nil: nobody wants to know. From its return on nothing goes to the one
    /// before, and what could not be told there is told here.
    package func route(_ ring: Int, to call: Descriptor?) {
        try? vectors.route(ring, to: call.map { .eventDescriptor($0) } ?? .none)
    }

    /// A ring is stopped, or its driver gone: from its return on nobody is told.
    package func silence(_ ring: Int) { route(ring, to: nil) }

    /// What has been raised for a ring and not been told.
    package func pending(_ ring: Int) -> UInt64 { (try? vectors.pending(ring)) ?? 0 }

    /// What the driver did to its descriptors since this was last asked, for the log.
    package func takeFaults() -> [String] {
        let faults = table.takeFaults()
        return faults.count == 0 ? [] : Set(faults.recent).map(\.description).sorted()
    }

    /// Writes descriptors again that were left alone.
    package func restoreTrust() { vectors.restoreTrust() }
}
