// The back end of a test's front end.

import LinuxSystem
import TestSupport
import VhostUser

/// A connection's back end, on a thread of its own.
package final class VhostService: Sendable {
    private let connection: VhostConnection
    private let thread: WorkerThread
    private let end: EndBox
    /// Whether what was put by is served, once that is known.
    package let began = LineCollector()

    /// Written before the thread ends, and read after.
    private final class EndBox: @unchecked Sendable { var value: VhostEnd? }

    package init(
        _ socket: Descriptor, _ device: any VhostDevice, resuming handover: VhostHandover?, _ ended: LineCollector,
        _ record: SessionRecord? = nil, trustsMemory: Bool = false
    ) throws {
        let (connection, end) = (try VhostConnection(socket, device, trustsMemory: trustsMemory, keeper: record), EndBox())
        (self.connection, self.end) = (connection, end)
        let began = began
        thread = try WorkerThread(name: "session") {
            let result = connection.run(resuming: handover) { began.add("\($0)") }
            if case .gone(let reason) = result { ended.add(reason ?? "left") }
            end.value = result
        }
    }

    /// Has it put by; how it ended.
    package func hold() -> VhostEnd {
        connection.hold()
        return join()
    }

    /// Waits for its end.
    @discardableResult package func join() -> VhostEnd {
        thread.join()
        return end.value ?? .gone("never ran")
    }
}
