// A disk that is being opened beside the control thread, because that may take long: its server may not be there yet.

import BlockDevices
import DriverRuntime
import LinuxSystem
import Synchronization

/// One disk on its way.
final class DiskOpening: Sendable {
    /// What is opened.
    let settings: DiskSettings
    private struct State {
        var outcome: Result<any BlockDevice, DeviceOpenFailure>?
        var note: DeviceOpenFailure?
        var isAbandoned = false
    }
    private let state = Mutex(State())
    private let worker = BlockingWorker(name: "disk-open")
    private let time: any TimeSource
    private let limit: UInt64

    /// Pauses between attempts, milliseconds.
    private static let (firstPause, longestPause): (Int64, Int64) = (100, 1000)

    /// Whether a disk has a server or a cluster, whom opening it may wait for.
    static func isNeeded(for settings: DiskSettings) -> Bool {
        switch try? DeviceTarget(settings.target) {
        case .nbd, .rbd: true
        default: false
        }
    }

    /// Begins to open a disk; one that is not there yet is tried for until `limit` milliseconds are over.
    init(_ settings: DiskSettings, limit: UInt64, time: any TimeSource, _ open: @escaping DiskOpener) {
        self.settings = settings
        self.limit = limit
        self.time = time
        worker.run { hasThread in self.work(open, mayWait: hasThread) }
    }

    /// How it ended; nil: it has not.
    var outcome: Result<any BlockDevice, DeviceOpenFailure>? { state.withLock { $0.outcome } }

    /// Why it takes so long, once.
    func takeNote() -> DeviceOpenFailure? { state.withLock { $0.note.take() } }

    /// Nobody wants the disk any more.
    func abandon() { state.withLock { $0.isAbandoned = true } }

    private func work(_ open: DiskOpener, mayWait: Bool) {
        let deadline = time.deadline(milliseconds: Int(clamping: limit))
        var pause = Self.firstPause
        var hasNoted = false
        while true {
            do throws(DeviceOpenFailure) {
                let disk = try open(settings)
                return state.withLock { $0.outcome = .success(disk) }
            } catch {
                let left = Int64(clamping: deadline) - Int64(clamping: time.nanoseconds)
                let isOver = state.withLock { state in
                    if error.mayPass && mayWait && left > 0 && !state.isAbandoned {
                        if !hasNoted { state.note = error }
                        return false
                    }
                    state.outcome = .failure(error)
                    return true
                }
                if isOver { return }
                hasNoted = true
                time.sleep(milliseconds: min(pause, left / 1_000_000 + 1))
                pause = min(pause * 2, Self.longestPause)
            }
        }
    }
}
