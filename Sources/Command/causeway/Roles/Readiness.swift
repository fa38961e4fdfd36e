// READY=1 once everything that this process serves is there.

import Synchronization

/// Counts services down.
final class Readiness: Sendable {
    private let missing: Atomic<Int>
    private let allThere: @Sendable () -> Void

    /// So many are to come; once they are there `allThere` is called.
    init(_ count: Int, allThere: @escaping @Sendable () -> Void = {}) {
        missing = Atomic(count)
        self.allThere = allThere
    }

    /// One more is there.
    func count() {
        guard missing.subtract(1, ordering: .relaxed).newValue == 0 else { return }
        ServiceManager.tell("READY=1")
        allThere()
    }
}
