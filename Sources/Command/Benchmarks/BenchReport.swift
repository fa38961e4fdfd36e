// Figures side by side: ours, the reference, the ratio.

import CommandSupport

/// One line of a benchmark.
struct BenchResult {
    var name: String
    /// Of `ours` and `reference`.
    var unit: String
    /// Every run, in order.
    var ours: [Double]
    var reference: [Double]
    /// Whether a larger number is the better one.
    var moreIsBetter = true

    /// The median of the runs; 0 without any.
    static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        guard !sorted.isEmpty else { return 0 }
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }

    /// Above 1: ours is the better one. Nil without a reference.
    var ratio: Double? {
        let (ours, reference) = (Self.median(ours), Self.median(reference))
        guard ours > 0, reference > 0 else { return nil }
        return moreIsBetter ? ours / reference : reference / ours
    }
}

/// All lines of a benchmark, as a table or as JSON.
package struct BenchReport {
    var results: [BenchResult] = []

    /// `{"results": [{"name", "unit", "ours", "reference", "ratio", "runs"}…]}`.
    package var json: String {
        let objects = results.map { result in
            let reference = result.reference.isEmpty ? "null" : number(BenchResult.median(result.reference))
            return "{\"name\": \"\(result.name)\", \"unit\": \"\(result.unit)\", "
                + "\"ours\": \(number(BenchResult.median(result.ours))), \"reference\": \(reference), "
                + "\"ratio\": \(result.ratio.map { fixed($0, 3) } ?? "null"), \"runs\": \(result.ours.count)}"
        }
        return "{\"results\": [\(objects.joined(separator: ", "))]}"
    }

    /// The same for people.
    package var table: [String] {
        Table.lines(
            [["", "unit", "ours", "reference", "ratio", "runs"]]
                + results.map { result in
                    [
                        result.name, result.unit, number(BenchResult.median(result.ours)),
                        result.reference.isEmpty ? "-" : number(BenchResult.median(result.reference)),
                        result.ratio.map { fixed($0, 2) } ?? "-", "\(result.ours.count)",
                    ]
                })
    }

    /// Prints it: one JSON object, or the table.
    package func print(json asJSON: Bool) {
        if asJSON { printLine(json) } else { for line in table { printLine(line) } }
    }

    private func number(_ value: Double) -> String { value < 100 ? fixed(value, 2) : fixed(value, 0) }
}
