// Numbers and times in words.

/// Nanoseconds for people, in three digits: `850 ns`, `12.3 µs`, `4.51 ms`, `1.20 s`, `64.0 s`.
package func inWords(nanoseconds: UInt64) -> String {
    let units: [(name: String, nanoseconds: Double)] = [("s", 1e9), ("ms", 1e6), ("µs", 1e3)]
    // What would be rounded to the next unit's first is that.
    guard let unit = units.first(where: { Double(nanoseconds) >= $0.nanoseconds * 0.9995 }) else { return "\(nanoseconds) ns" }
    let value = Double(nanoseconds) / unit.nanoseconds
    let decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0
    return "\(fixed(value, decimals)) \(unit.name)"
}

/// `value` with so many decimals; 0 where it is no number.
package func fixed(_ value: Double, _ decimals: Int) -> String {
    let scale = (0..<decimals).reduce(1.0) { product, _ in product * 10 }
    guard value.isFinite, abs(value) * scale < 1e15 else { return "0" }
    let scaled = Int((abs(value) * scale).rounded())
    let sign = value < 0 && scaled != 0 ? "-" : ""
    guard decimals > 0 else { return "\(sign)\(scaled)" }
    let digits = String(scaled)
    let padded = String(repeating: "0", count: max(0, decimals + 1 - digits.count)) + digits
    return "\(sign)\(padded.dropLast(decimals)).\(padded.suffix(decimals))"
}
