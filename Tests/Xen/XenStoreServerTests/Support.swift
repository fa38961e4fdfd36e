// What several of these tests need.

import LinuxSystem
import Synchronization
import Testing
@testable import XenStore

/// Waits until `condition` holds, five seconds at most.
func eventually(_ condition: () throws -> Bool) async throws {
    for _ in 0..<500 {
        if try condition() { return }
        try await Task.sleep(for: .milliseconds(10))
    }
    Issue.record("it did not come about within five seconds")
}

/// Work on a thread of its own: a call that blocks must not take one of the few threads that tasks run on.
final class Elsewhere<Value: Sendable>: Sendable {
    private let outcome: Mutex<Result<Value, any Error>?>

    init(_ body: @escaping @Sendable () throws -> Value) {
        outcome = Mutex(nil)
        let thread = try? WorkerThread(name: "test", blocksSignals: true) { [self] in
            let result = Result(catching: body)
            outcome.withLock { $0 = result }
        }
        if thread == nil { outcome.withLock { $0 = .failure(StoreError.disconnected("no thread")) } }
    }

    /// What came of it, within ten seconds.
    func value() async throws -> Value {
        for _ in 0..<2000 {
            if let result = outcome.withLock({ $0 }) { return try result.get() }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw StoreError.disconnected("no outcome within ten seconds")
    }
}
