// A backend that is asked to end, whatever it is at.

import Synchronization

/// Passes on that the process is to end, to the services that run then or begin later.
final class BackendEnding: Sendable {
    private let state = Mutex((hasBegun: false, stop: nil as (@Sendable () -> Void)?))

    /// Whether the process is to end.
    var hasBegun: Bool { state.withLock { $0.hasBegun } }

    /// These services run from now on.
    func serving(_ stop: @escaping @Sendable () -> Void) {
        let isLate = state.withLock { state in
            state.stop = stop
            return state.hasBegun
        }
        if isLate { stop() }
    }

    /// From any thread.
    func end() {
        ServiceManager.tell("STOPPING=1")
        let stop = state.withLock { state in
            state.hasBegun = true
            return state.stop
        }
        stop?()
    }
}
