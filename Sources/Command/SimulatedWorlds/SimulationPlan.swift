// What one simulation is to be.

import Simulation

/// Everything that decides on a run: the same plan runs the same way.
public struct SimulationPlan: Sendable, Equatable {
    /// Where every decision comes from.
    public var seed: UInt64
    /// Steps until nothing goes wrong any more, and what was begun must end.
    public var steps: Int
    /// What may go wrong.
    public var kinds: Set<FaultKind>

    /// A plan as given.
    public init(seed: UInt64, steps: Int = 2000, kinds: Set<FaultKind> = Set(FaultKind.allCases)) {
        self.seed = seed
        self.steps = steps
        self.kinds = kinds
    }
}

/// How a simulation ended.
public struct SimulationOutcome: Sendable {
    /// What must not be, in words; nil: nothing of the kind.
    public var violation: String?
    /// How many faults of each kind there were.
    public var faults: [FaultKind: Int] = [:]
    /// Operations of the disk's users that were answered.
    public var operations = 0
    /// Tells two runs apart.
    public var hash: UInt64 = 0
    /// What happened, where it was kept.
    public var trace: [String] = []
}

/// What must not be.
struct Violation: Error, CustomStringConvertible {
    let description: String
    init(_ text: String) { description = text }
}
