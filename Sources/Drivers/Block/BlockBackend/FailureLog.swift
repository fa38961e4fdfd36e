// What is said of a disk's failures: a line for each kind, at most once in each look, however many there were.

import BlockModel
import LinuxSystem

/// What has been told of one disk.
struct FailureLog {
    private struct Kind: Hashable {
        let kind: DiskFailure.Kind
        let reason: Errno
    }
    private var told: [Kind: UInt64] = [:]

    /// One line.
    struct Line: Equatable {
        let reason: Errno
        /// `write at sector 2048: No space left on device, and 41 more`.
        let text: String
    }

    /// What is new in `failures`, a list for each of the disk's queues, all of them since its connection began.
    mutating func news(of failures: [[DiskFailure]]) -> [Line] {
        var lines: [Line] = []
        // What was never begun because its frontend went is no failure of the disk's.
        for sum in DiskFailure.sums(of: failures) where sum.reason != .canceled {
            let kind = Kind(kind: sum.kind, reason: sum.reason)
            guard sum.count > told[kind] ?? 0 else { continue }
            let new = sum.count - (told[kind] ?? 0)
            told[kind] = sum.count
            let place = sum.sector.map { " at sector \($0)" } ?? ""
            let more = new > 1 ? ", and \(new - 1) more" : ""
            lines.append(Line(reason: sum.reason, text: "\(sum.kind.rawValue)\(place): \(sum.reason)\(more)"))
        }
        return lines
    }
}
