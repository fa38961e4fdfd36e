// The text format of Prometheus. https://prometheus.io/docs/instrumenting/exposition_formats/

import DeviceControl

/// One metric with its samples.
struct MetricFamily {
    /// What scrapers do with it.
    enum Kind: String {
        case counter
        case gauge
        case histogram
    }

    /// Names and values of labels, in order.
    typealias Labels = [(name: String, value: String)]

    /// Letters, digits and `_`.
    private let name: String
    private let kind: Kind
    private let meaning: String
    /// What follows the name, and the value.
    private var samples: [(suffix: String, labels: Labels, value: String)] = []

    /// A metric without samples yet. A counter's name gets its `_total`.
    init(_ name: String, _ kind: Kind, _ meaning: String) {
        self.name = name.map { $0 == "-" ? "_" : "\($0)" }.joined() + (kind == .counter ? "_total" : "")
        self.kind = kind
        self.meaning = meaning
    }

    var isEmpty: Bool { samples.isEmpty }

    /// A number, and whose it is.
    mutating func add(_ labels: Labels, _ value: UInt64) { samples.append(("", labels, "\(value)")) }

    /// Bounds of a histogram's buckets, in nanoseconds: powers of two from 1 µs to 17 s, each with how it is written in
    /// seconds.
    private static let bounds: [(nanoseconds: UInt64, seconds: String)] = stride(from: UInt64(10), through: 34, by: 1).map {
        (1 << $0, seconds(1 << $0))
    }

    /// Times of a device, and whose they are.
    mutating func add(_ labels: Labels, _ histogram: LatencyHistogram) {
        for bound in Self.bounds {
            samples.append(("_bucket", labels + [("le", bound.seconds)], "\(histogram.count(below: bound.nanoseconds))"))
        }
        samples.append(("_bucket", labels + [("le", "+Inf")], "\(histogram.count)"))
        samples.append(("_sum", labels, Self.seconds(histogram.nanoseconds)))
        samples.append(("_count", labels, "\(histogram.count)"))
    }

    /// Nanoseconds as a decimal number of seconds, exactly.
    private static func seconds(_ nanoseconds: UInt64) -> String {
        let fraction = String(nanoseconds % 1_000_000_000 + 1_000_000_000).dropFirst()
        return "\(nanoseconds / 1_000_000_000).\(fraction)"
    }

    var lines: [String] {
        ["# HELP \(name) \(meaning)", "# TYPE \(name) \(kind.rawValue)"]
            + samples.map { suffix, labels, value in
                let inside = labels.map { "\($0.name)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",")
                return labels.isEmpty ? "\(name)\(suffix) \(value)" : "\(name)\(suffix){\(inside)} \(value)"
            }
    }

    /// What the format wants in a label's value.
    private static func escaped(_ text: String) -> String {
        text.map { character in
            switch character {
            case "\\": "\\\\"
            case "\"": "\\\""
            case "\n": "\\n"
            default: "\(character)"
            }
        }.joined()
    }
}
