// causeway-sim: simulations from seeds; a seed that fails is made as small as it can be and told.

import ArgumentParser
import Glibc
import LinuxSystem
import SimulatedWorlds
import Simulation

@main
struct CausewaySim: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "causeway-sim",
        abstract: "Runs whole pairs in one thread, from seeds, with faults, and says which seed fails.")

    @Option(help: "The first seed, where --seeds is how many; 0 if nothing is said.")
    var first: UInt64?
    @Option(help: "How many seeds, at least 1, or which ones: A..<B, with B left out.")
    var seeds = SeedRange.count(1000)
    @Option(help: "Steps with faults in each; what was begun then must end.")
    var steps = SimulationPlan(seed: 0).steps
    @Option(help: "Kinds of faults, with commas between; all of them if nothing is said.")
    var faults: String?
    @Option(help: "Where journals are, a directory in memory.")
    var directory = "/dev/shm"
    @Flag(help: "Prints what happens, line by line: for one seed.")
    var trace = false
    @Flag(help: "Runs each seed twice, and fails where they differ.")
    var twice = false

    func validate() throws {
        guard let range = seeds.seeds(from: first) else {
            throw ValidationError(
                first == nil
                    ? "--seeds has more than there are"
                    : "--first goes with --seeds N, and both together must fit into 64 bits; --seeds A..<B has its first")
        }
        guard steps > 0 else { throw ValidationError("--steps is how many steps each has, at least 1") }
        guard !trace || range.count == 1 else { throw ValidationError("--trace is for one seed: --seeds 1") }
    }

    func run() throws {
        try makeHashingRepeatable()
        guard let range = seeds.seeds(from: first) else { return }
        let kinds = try parseKinds()
        let scratch = "\(directory)/causeway-sim-\(getpid())"
        var total = SimulationTotal(of: range.count)
        defer { removeJournals(scratch) }
        for seed in range {
            let plan = SimulationPlan(seed: seed, steps: steps, kinds: kinds)
            let outcome = try perform(plan, scratch)
            total.add(outcome)
            if twice, try perform(plan, scratch).hash != outcome.hash {
                throw ValidationError("seed \(seed): two runs of it differ")
            }
            guard let violation = outcome.violation else { continue }
            print(total)
            try tell(plan, violation, scratch)
            throw ExitCode.failure
        }
        print(total)
    }

    private func perform(_ plan: SimulationPlan, _ scratch: String, trace: Bool = false) throws -> SimulationOutcome {
        removeJournals(scratch)
        let world = try BlockWorld(plan, directory: scratch, keepsTrace: trace || self.trace)
        let outcome = world.run()
        if self.trace { for line in outcome.trace { print(line) } }
        return outcome
    }

    private func tell(_ plan: SimulationPlan, _ violation: String, _ scratch: String) throws {
        print("seed \(plan.seed): \(violation)")
        let least = plan.minimized { ((try? perform($0, scratch))?.violation) != nil }
        let outcome = try perform(least, scratch, trace: true)
        for line in outcome.trace.suffix(60) { print("  \(line)") }
        print("  \(outcome.violation ?? "nothing")")
        let kinds = least.kinds.map(\.rawValue).sorted().joined(separator: ",")
        print("again: causeway-sim --first \(least.seed) --seeds 1 --steps \(least.steps) --faults '\(kinds)' --trace")
    }

    private func removeJournals(_ directory: String) {
        for name in FileSystem.names(in: directory) { FileSystem.remove("\(directory)/\(name)") }
        FileSystem.removeDirectory(directory)
    }

    private func parseKinds() throws -> Set<FaultKind> {
        guard let faults else { return Set(FaultKind.allCases) }
        return Set(
            try faults.split(separator: ",").map { name in
                guard let kind = FaultKind(rawValue: String(name)) else {
                    let known = FaultKind.allCases.map(\.rawValue).joined(separator: ", ")
                    throw ValidationError("\(name) is no kind of fault; there are \(known)")
                }
                return kind
            })
    }

    /// Sets and dictionaries have another order in each process, unless the environment says otherwise.
    private func makeHashingRepeatable() throws {
        try beginAnew(CommandLine.arguments, unless: "SWIFT_DETERMINISTIC_HASHING")
    }
}
