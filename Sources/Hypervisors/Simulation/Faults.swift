// What can go wrong in a simulation, and what did.

import Synchronization

/// A kind of fault.
public enum FaultKind: String, CaseIterable, Sendable {
    /// An event channel's notification that nobody hears.
    case eventLost = "event-lost"
    /// One that arrives twice.
    case eventDoubled = "event-doubled"
    /// One that arrives later, behind others.
    case eventLate = "event-late"
    /// A grant that cannot be mapped.
    case mapRefused = "map-refused"
    /// An operation that a device fails, having done some of it or none.
    case deviceError = "device-error"
    /// A backend's process that is killed.
    case backendKilled = "backend-killed"
    /// A backend that is ended in good order, or hands over to the next.
    case backendStopped = "backend-stopped"
    /// A frontend's process that is killed.
    case frontendKilled = "frontend-killed"
    /// A frontend that closes its device in good order, and another that opens it.
    case frontendClosed = "frontend-closed"
    /// Everybody dies, and of what was not flushed a device keeps what it likes.
    case powerLost = "power-lost"
}

/// Decides on faults and counts those that happened.
public final class FaultInjector: Sendable {
    private let chance: Chance
    private let kinds: Set<FaultKind>
    private struct State {
        var isActive = true
        var counts: [FaultKind: Int] = [:]
    }
    private let state = Mutex(State())

    /// Faults of some kinds by the decisions of `chance`. Others are decided on, too, and then do not happen, so that
    /// leaving a kind out changes as little as it can.
    public init(_ chance: Chance, kinds: Set<FaultKind>) {
        self.chance = chance
        self.kinds = kinds
    }

    /// Whether a fault of this kind happens now: once in `count` times while they do.
    public func happens(_ kind: FaultKind, oneIn count: Int) -> Bool {
        let isDue = chance.oneIn(count)
        return state.withLock { state in
            guard isDue, state.isActive, kinds.contains(kind) else { return false }
            state.counts[kind, default: 0] += 1
            return true
        }
    }

    /// From now on nothing goes wrong.
    public func end() { state.withLock { $0.isActive = false } }

    /// How many of each kind there were.
    public var counts: [FaultKind: Int] { state.withLock { $0.counts } }
}
