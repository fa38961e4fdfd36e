// Which threads the queues of an interface are on.

import NetworkDevices
import Reactor

/// A backend's reactors, as one of its interfaces takes them.
struct ReactorAssignment: Sendable {
    private let all: [Reactor]
    private let first: Int

    /// - Parameters:
    ///   - all: at least one.
    ///   - number: the interface's. Each begins at the next reactor, so that those with one queue spread, too.
    init(_ all: [Reactor], interface number: Int) {
        self.all = all
        first = number % all.count
    }

    /// One for each group of the device's queues: queue n is the n-th's, modulo how many there are.
    func reactors(for device: any NetworkDevice, queues: Int) -> [Reactor] {
        // The ends of a cable are on one thread: each finds what the other gave without being woken, which is worth
        // more than a second processor.
        if device.needsOneThread { return [all[0]] }
        return (0..<max(1, min(all.count, queues))).map { all[(first + $0) % all.count] }
    }
}
