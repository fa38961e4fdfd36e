// What many seeds came to.

import LinuxSystem
import SimulatedWorlds
import Simulation

/// Sums over seeds, and how fast they went.
struct SimulationTotal: CustomStringConvertible {
    private let wanted: Int
    private let begun = SystemTime().nanoseconds
    private var seeds = 0
    private var operations = 0
    private var faults: [FaultKind: Int] = [:]

    init(of wanted: Int) { self.wanted = wanted }

    mutating func add(_ outcome: SimulationOutcome) {
        seeds += 1
        operations += outcome.operations
        faults.merge(outcome.faults, uniquingKeysWith: +)
    }

    /// `1000 of 1000 seeds, 214 a second: 60211 operations; faults: event-lost 1203, …`.
    var description: String {
        let rate = Double(seeds) / (Double(SystemTime().nanoseconds - begun) / 1e9)
        let kinds = FaultKind.allCases.compactMap { kind in faults[kind].map { "\(kind.rawValue) \($0)" } }
        return "\(seeds) of \(wanted) seeds, \(Int(rate)) a second: \(operations) operations; faults: "
            + (kinds.isEmpty ? "none" : kinds.joined(separator: ", "))
    }
}
