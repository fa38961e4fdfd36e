// READY=1 once everything that this process serves is there.

import Synchronization

/// Counts services down.
final class Readiness: Sendable {
    private let missing: Atomic<Int>

    /// So many are to come.
    init(_ count: Int) { missing = Atomic(count) }

    /// One more is there.
    func count() {
        if missing.subtract(1, ordering: .relaxed).newValue == 0 { ServiceManager.tell("READY=1") }
    }
}
