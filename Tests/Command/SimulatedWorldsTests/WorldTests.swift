// Simulations of a disk's whole world: what must hold does, a seed runs one way, and what is wrong is noticed.

import LinuxSystem
import Simulation
import TestSupport
import Testing

@testable import SimulatedWorlds

@Suite(.timeLimit(.minutes(2))) struct WorldTests {
    private func run(_ plan: SimulationPlan, keepsTrace: Bool = false) throws -> SimulationOutcome {
        let scratch = try TemporaryDirectory()
        return try BlockWorld(plan, directory: scratch.path + "/journals", keepsTrace: keepsTrace).run()
    }

    /// Few, for each takes half a second of a debug build; `make simulate` runs thousands.
    @Test(arguments: [0..<8, 8..<16] as [Range<UInt64>])
    func whatMustHoldDoes(_ seeds: Range<UInt64>) throws {
        var faults: [FaultKind: Int] = [:], operations = 0
        for seed in seeds {
            let outcome = try run(SimulationPlan(seed: seed))
            #expect(outcome.violation == nil, "seed \(seed)")
            faults.merge(outcome.faults, uniquingKeysWith: +)
            operations += outcome.operations
        }
        // Something happened.
        #expect(operations > 300)
        #expect(faults.count >= 6, "\(faults)")
    }

    /// Seed 3 shows it where the ring is not rung again.
    @Test func eventsThatAreLostHoldNobodyUpForGood() throws {
        for seed: UInt64 in 0..<8 {
            let outcome = try run(SimulationPlan(seed: seed, kinds: [.eventLost]))
            #expect(outcome.violation == nil, "seed \(seed)")
        }
    }

    /// In one process: between two, the order of sets is another, unless the command sees to it.
    @Test func aSeedRunsOneWay() throws {
        let first = try run(SimulationPlan(seed: 77), keepsTrace: true)
        let second = try run(SimulationPlan(seed: 77), keepsTrace: true)
        #expect(first.hash == second.hash && first.trace == second.trace)
        #expect(first.trace.count > 50)
        #expect(try run(SimulationPlan(seed: 78)).hash != first.hash)
    }

    @Test func withoutKindsNothingGoesWrong() throws {
        let outcome = try run(SimulationPlan(seed: 5, kinds: []))
        #expect(outcome.violation == nil && outcome.faults.isEmpty)
    }

    /// The least plan that fails has what it fails for, and no more.
    @Test func aPlanIsMadeSmaller() {
        let least = SimulationPlan(seed: 1, steps: 1000).minimized { $0.kinds.contains(.powerLost) && $0.steps >= 137 }
        #expect(least == SimulationPlan(seed: 1, steps: 137, kinds: [.powerLost]))
    }
}

@Suite struct OracleTests {
    private let sector = 3..<4

    @Test func aWriteIsThereOnceItIsAnswered() {
        var oracle = DiskOracle(sectors: 8)
        oracle.asked(1, order: 1, sector)
        #expect(oracle.expectation(of: 3) == "0 or 1")
        let isFound = oracle.found(1, in: 3)
        #expect(isFound)
        // What was found stays.
        #expect(oracle.expectation(of: 3) == "1")
        let isOldFound = oracle.found(0, in: 3)
        #expect(!isOldFound)
        oracle.asked(2, order: 2, sector)
        oracle.done(2, sector)
        #expect(oracle.expectation(of: 3) == "2")
    }

    @Test func aFlushCoversWhatWasAnsweredBefore() {
        var oracle = DiskOracle(sectors: 8)
        for number in 1...2 as ClosedRange<UInt64> {
            oracle.asked(number, order: number, sector)
            oracle.done(number, sector)
        }
        let mark = oracle.mark(last: 2)
        oracle.asked(3, order: 3, sector)
        oracle.done(3, sector)
        oracle.flushed(mark)
        oracle.powerFailed()
        #expect(oracle.expectation(of: 3) == "2 or 3")
        // Without a flush anything since may be there.
        oracle.asked(4, order: 4, sector)
        oracle.powerFailed()
        #expect(oracle.expectation(of: 3) == "2 or 3 or 4")
    }

    /// What a discard leaves is as new as the discard.
    @Test func aDiscardSinceIsNotCovered() {
        var oracle = DiskOracle(sectors: 8)
        oracle.asked(1, order: 1, sector)
        oracle.done(1, sector)
        let mark = oracle.mark(last: 1)
        oracle.asked(0, order: 2, sector)
        oracle.flushed(mark)
        oracle.powerFailed()
        #expect(oracle.expectation(of: 3) == "0 or 1")
    }

    /// A write that overlaps a flush is not covered by it.
    @Test func aWriteUnderWayIsNotCovered() {
        var oracle = DiskOracle(sectors: 8)
        oracle.asked(1, order: 1, sector)
        let mark = oracle.mark(last: 1)
        oracle.done(1, sector)
        oracle.flushed(mark)
        oracle.powerFailed()
        #expect(oracle.expectation(of: 3) == "0 or 1")
    }
}
