// What somebody else than the front end wants of a device that one uses: done on the connection's thread, between two
// messages, so that a session is touched by one thread only.

import LinuxSystem
import VirtioWire

/// Something to be done between two messages.
enum VhostOrder: Sendable {
    /// Look whether the device has changed.
    case refresh
    /// Look at a ring.
    case kick(ring: Int)
    /// Signal a ring's driver.
    case inject(ring: Int)
    /// Tell the network where this address is now.
    case announce(MACAddress)
}

/// What became of an order, for whoever waits.
final class OneAnswer: Sendable {
    private let said = Monitor<VhostRefusal??>(nil)

    /// Says it; nil: it is done.
    func deliver(_ refusal: VhostRefusal?) { said.change { $0 = .some(refusal) } }

    /// Waits until it is said.
    func wait() -> VhostRefusal? { said.wait { $0 } ?? nil }
}

/// Orders that wait, in their order.
struct VhostOrders {
    private var waiting: [(VhostOrder, OneAnswer)] = []
    private var isClosed = false

    /// False: nobody will do it any more.
    mutating func add(_ order: VhostOrder, _ answer: OneAnswer) -> Bool {
        if isClosed { return false }
        waiting.append((order, answer))
        return true
    }

    /// Those that wait, which wait no more.
    mutating func take() -> [(VhostOrder, OneAnswer)] {
        defer { waiting = [] }
        return waiting
    }

    /// The last ones.
    mutating func close() -> [(VhostOrder, OneAnswer)] {
        isClosed = true
        return take()
    }
}
