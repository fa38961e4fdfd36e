// Scripts may take seconds, and the thread that serves all interfaces has none: what may wait is done on a thread of
// its own, in order for taps of one name, so that one is gone before the next is made.

import LinuxSystem

/// One lane for each name in use.
final class TapLanes: Sendable {
    private struct Lane {
        let worker: BlockingWorker
        var jobs = 0
    }
    private let lanes = Monitor<[String: Lane]>([:])

    /// Whether something is under way for taps of this name.
    func isBusy(_ name: String) -> Bool { lanes.change { $0[name] != nil } }

    /// Does `job` after all that was asked for earlier under this name.
    func run(_ name: String, _ job: @escaping @Sendable () -> Void) {
        let worker = lanes.change { lanes in
            lanes[name, default: Lane(worker: BlockingWorker(name: "vif-script"))].jobs += 1
            return lanes[name]?.worker
        }
        worker?.run { _ in
            job()
            self.lanes.change { lanes in
                lanes[name]?.jobs -= 1
                if lanes[name]?.jobs == 0 { lanes[name] = nil }
            }
        }
    }

    /// Waits until all is done, at most so long.
    func finish(seconds: Int, _ time: some TimeSource) {
        _ = lanes.wait(milliseconds: seconds * 1000, time) { $0.isEmpty ? true : nil }
    }
}
