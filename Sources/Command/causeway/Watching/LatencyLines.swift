// Histograms of times as status lines: `latency/read/ns` with the sum, then `latency/read/97` for each bucket that has
// something, by its number.

import DeviceControl

/// A histogram's place in a status line's name.
struct LatencyName {
    private static let prefix = "latency/"

    /// What was timed.
    let operation: String
    /// Which bucket; nil: the sum, which comes first.
    let bucket: Int?

    /// From a status line's name; nil for every other's.
    init?(_ name: String) {
        guard name.hasPrefix(Self.prefix) else { return nil }
        let words = name.dropFirst(Self.prefix.count).split(separator: "/", omittingEmptySubsequences: false)
        guard words.count == 2, !words[0].isEmpty else { return nil }
        operation = String(words[0])
        if words[1] == "ns" {
            bucket = nil
        } else if let number = Int(words[1]), (0..<LatencyHistogram.bucketCount).contains(number) {
            bucket = number
        } else {
            return nil
        }
    }

    /// A histogram's lines.
    static func lines(_ subject: String, _ operation: String, _ histogram: LatencyHistogram) -> [StatusLine] {
        let name = prefix + operation
        return [StatusLine(subject, "\(name)/ns", histogram.nanoseconds)]
            + histogram.counts.enumerated().compactMap { bucket, count in
                count > 0 ? StatusLine(subject, "\(name)/\(bucket)", count) : nil
            }
    }
}
