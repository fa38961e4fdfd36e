// Time of this thread's processor, so that neighbours cost nothing but cache; each figure the median of many short
// rounds, one of ours and one of each reference in turn.

import Glibc

enum Measure {
    static let rounds = 31

    static func now() -> Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) * 1e9 + Double(time.tv_nsec)
    }

    /// Nanoseconds an operation, for each body; a body gets the round's number. Each is run once more before its time
    /// is taken, with the round before's number: the caches then hold what it uses, not what its neighbour did. Not if
    /// not `warm`: where one body undoes another's work.
    static func medians(_ operations: Int, warm: Bool = true, _ bodies: [(Int) -> Void]) -> [Double] {
        var times = bodies.map { _ in [Double]() }
        for round in 0..<rounds {
            for (index, body) in bodies.enumerated() {
                if warm { body((round + rounds - 1) % rounds) }
                let start = now()
                body(round)
                times[index].append(now() - start)
            }
        }
        return times.map { $0.sorted()[rounds / 2] / Double(operations) }
    }

    @inline(never) static func keep(_ value: UInt64) { sink = value }
    nonisolated(unsafe) static var sink: UInt64 = 0
}

/// A generator that costs nothing, seeded: the same run every time.
struct Xorshift: RandomNumberGenerator {
    var state: UInt64 = 0x2545_F491_4F6C_DD1D
    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }
}

/// A line of the table.
struct Row {
    var name: String
    var ours: Double
    /// What it is measured beside, in the same run.
    var reference: (name: String, value: Double)?
    /// What the design asks for; 0: nothing.
    var target: Double = 0

    var ratio: Double? { reference.map { $0.value / ours } }
}

enum Report {
    static func shown(_ value: Double) -> String {
        let tenths = Int(value * 10 + 0.5)
        return "\(tenths / 10).\(tenths % 10)"
    }

    static func pad(_ text: String, _ width: Int, right: Bool = false) -> String {
        let space = String(repeating: " ", count: max(0, width - text.count))
        return right ? space + text : text + space
    }

    static func heading() {
        print(pad("nanoseconds", 58) + "  ours   reference                 ratio  target")
    }

    static func line(_ row: Row) {
        let reference = row.reference.map { "\(shown($0.value)) \($0.name)" } ?? "-"
        let ratio = row.ratio.map { value in
            let hundredths = Int(value * 100 + 0.5)
            return "\(hundredths / 100)." + (hundredths % 100 < 10 ? "0" : "") + "\(hundredths % 100)"
        }
        let verdict =
            row.target == 0 ? "" : row.ours <= row.target ? "  met" : row.ours <= 2 * row.target ? "  within 2x" : "  missed"
        print(
            pad(row.name, 56) + pad(shown(row.ours), 8, right: true) + "   " + pad(reference, 24)
                + pad(ratio ?? "-", 7, right: true) + pad(row.target > 0 ? shown(row.target) : "-", 8, right: true) + verdict)
    }

    static func json(_ rows: [Row]) {
        let results = rows.map { row in
            let reference = row.reference.map {
                "\"reference\": \($0.value), \"reference_name\": \"\($0.name)\", \"ratio\": \(row.ratio ?? 0)"
            }
            return "{\"name\": \"\(row.name)\", \"unit\": \"ns\", \"ours\": \(row.ours), "
                + (reference ?? "\"reference\": null, \"ratio\": null")
                + ", \"target\": \(row.target), \"runs\": \(Measure.rounds)}"
        }
        print("{\"results\": [\(results.joined(separator: ", "))]}")
    }
}
