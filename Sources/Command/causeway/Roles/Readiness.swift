// READY=1 once everything that this process serves is there.

import Synchronization

/// Counts services down.
final class Readiness: Sendable {
    private let missing: Atomic<Int>
    private let allThere = Mutex<(@Sendable () -> Void)?>(nil)

    /// So many are to come.
    init(_ count: Int) { missing = Atomic(count) }

    /// Once they are there `allThere` is called; said before the first can be.
    func then(_ allThere: @escaping @Sendable () -> Void) { self.allThere.withLock { $0 = allThere } }

    /// One more is there.
    func count() {
        guard missing.subtract(1, ordering: .relaxed).newValue == 0 else { return }
        ServiceManager.tell("READY=1")
        allThere.withLock { $0.take() }?()
    }
}
