// The number of what a disk failed for one reason, as a status line calls it: there are as many names as reasons, so
// that they are in no table.

import BlockModel
import LinuxSystem

struct FailureName: Hashable {
    /// `read`, `write`, `flush`, `discard` or `zeroes`.
    let operation: String
    /// `ENOSPC`.
    let error: String

    private static let prefix = "failed-"

    init(_ failure: DiskFailure) {
        operation = failure.kind.rawValue
        error = failure.reason.name
    }

    /// From a status line's name; nil for every other number's.
    init?(_ name: String) {
        let words = name.dropFirst(Self.prefix.count).split(separator: "-", omittingEmptySubsequences: false)
        guard name.hasPrefix(Self.prefix), words.count == 2, DiskFailure.Kind(rawValue: String(words[0])) != nil, !words[1].isEmpty
        else { return nil }
        operation = String(words[0])
        error = String(words[1])
    }

    /// `failed-write-ENOSPC`.
    var text: String { "\(Self.prefix)\(operation)-\(error)" }
}
