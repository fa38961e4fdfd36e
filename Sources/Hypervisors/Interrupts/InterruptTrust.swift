// Whether a device's eventfds may be written at all. Whoever else has one can make it block and fill it, and then a
// write holds the thread that interrupts, with every other device on it, until it is given up.

import Synchronization

/// What a device's vectors have in common.
final class InterruptTrust: Sendable {
    /// Writes that may be held before the device's eventfds are left alone.
    static let mostHeld: UInt32 = 3

    private let held = Atomic<UInt32>(0)
    private let device: String
    private let table: InterruptTable

    init(_ device: String, _ table: InterruptTable) {
        self.device = device
        self.table = table
    }

    /// A write was held.
    func wasBlocked() {
        let isLast = held.wrappingAdd(1, ordering: .relaxed).newValue == Self.mostHeld
        table.record(InterruptFault(device: device, cause: isLast ? .leftAlone : .blocked))
    }

    /// Whether none is to be written any more.
    var isLost: Bool { held.load(ordering: .relaxed) >= Self.mostHeld }

    /// Begins anew.
    func restore() { held.store(0, ordering: .relaxed) }
}
