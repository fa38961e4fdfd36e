// An interrupt line that all of a controller's pairs of queues raise. One of them waits for it, on its reactor, and has
// the others look, each on its own; behind the last one's look, when every head that there was to write has been
// written, the line is armed again. Earlier it would be raised at once by what nobody has acknowledged yet.

import LinuxSystem
import Reactor
import Synchronization

/// Who is told of a line's interrupt. Any thread.
final class SharedInterrupt: Sendable {
    /// A pair of queues, and where it lives.
    struct Member {
        let reactor: Reactor
        let slot: ReactorSlot
    }
    private struct State {
        /// By the pairs' numbers.
        var members: [Int: Member] = [:]
        /// Whose reactor waits for the descriptor.
        var waiting: Int?
        /// Who has not looked since the last interrupt.
        var looking: Set<Int> = []
    }
    private let state = Mutex(State())
    private let port: any NVMePort
    /// Readable when the line was raised.
    let event: Descriptor

    init(_ port: any NVMePort, _ event: Descriptor) {
        self.port = port
        self.event = event
    }

    /// Adds a pair; true: it is the one that waits for the descriptor.
    func join(_ queue: Int, _ member: Member) -> Bool {
        let isFirst = state.withLock { state in
            state.members[queue] = member
            if state.waiting != nil { return false }
            state.waiting = queue
            return true
        }
        if isFirst {
            // What it told of before is nothing of ours.
            port.takeInterrupt(event)
            port.armInterrupt()
        }
        return isFirst
    }

    /// The pair that waits has been told: it looks next, and the others are asked to, each of which then has `looked`.
    func raised(by queue: Int) {
        port.takeInterrupt(event)
        let others = state.withLock { state in
            state.looking.insert(queue)
            var others: [Member] = []
            for (number, member) in state.members where state.looking.insert(number).inserted { others.append(member) }
            return others
        }
        for other in others { other.reactor.notify(other.slot, tag: NVMeQueue.Tag.look, result: 0) }
    }

    /// A pair has looked, and acknowledged what it saw.
    func looked(_ queue: Int) {
        if state.withLock({ $0.looking.remove(queue) != nil && $0.looking.isEmpty }) { port.armInterrupt() }
    }

    /// Takes a pair out; another one waits from then on.
    func leave(_ queue: Int) {
        let next = state.withLock { state -> Member? in
            state.members[queue] = nil
            guard state.waiting == queue else { return nil }
            state.waiting = state.members.keys.min()
            return state.waiting.flatMap { state.members[$0] }
        }
        if let next { next.reactor.notify(next.slot, tag: NVMeQueue.Tag.wait, result: 0) }
        looked(queue)
    }
}
