// Plans of faults: as words and back, and what is refused, each in one line.

import DeviceFaults
import Testing

@Suite("plans of faults") struct FaultPlanTests {
    /// A plan with everything said.
    private static let full: FaultPlan = {
        var plan = FaultPlan(.delay)
        plan.name = "slow-reads"
        plan.side = .back
        plan.count = 7
        plan.every = 3
        plan.seed = .max
        plan.milliseconds = 250
        plan.operations = [.read, .discard]
        plan.sectors = 8...15
        return plan
    }()

    @Test("a plan is the same after its way as words") func roundTrip() throws {
        #expect(try FaultPlan(words: Self.full.words) == Self.full)
        for kind in DeviceFault.allCases { #expect(try FaultPlan(words: FaultPlan(kind).words) == FaultPlan(kind)) }
        var toward = FaultPlan(.drop)
        toward.toward = .front
        #expect(try FaultPlan(words: toward.words) == toward)
    }

    @Test(
        "words that say nothing are refused",
        arguments: [
            [], [""], ["delay"], ["kind=delay", "ms"], ["kind=delay", "ms="], ["kind=delay", "ms=-1"], ["kind=delay", "every=x"],
            ["kind=delay", "what=1"], ["kind=melt"], ["kind=delay", "side=left"], ["kind=delay", "toward="],
            ["kind=delay", "operation=read,"], ["kind=delay", "sectors=3-1"], ["kind=delay", "sectors=1-2-3"],
            ["kind=delay", "sectors=-"], ["kind=delay", "count=18446744073709551616"],
        ])
    func hostileWords(words: [String]) {
        #expect(throws: FaultError.self) { try FaultPlan(words: words) }
    }

    private func refusal(_ kind: DeviceFault, _ subject: FaultSubject = .block, _ change: (inout FaultPlan) -> Void) -> String? {
        var plan = FaultPlan(kind)
        change(&plan)
        do throws(FaultError) { try plan.validate(for: subject) } catch { return error.description }
        return nil
    }

    @Test("what cannot be is told in one line") func validation() {
        #expect(refusal(.delay) { _ in } == nil)
        #expect(
            refusal(.short) { _ in }?.hasPrefix("`short` is nothing that the back side of a disk can do wrong; it knows ") == true)
        #expect(refusal(.error, .network) { _ in }?.hasPrefix("`error` is nothing that the back side of an interface") == true)
        #expect(refusal(.error) { $0.side = .front }?.hasPrefix("`error` is nothing that the front side of a disk") == true)
        #expect(refusal(.error) { $0.milliseconds = 5 } == "--ms means nothing for `error` on the back side of a disk")
        #expect(refusal(.delay) { $0.milliseconds = 0 } == "--ms: `0` is not 1 to 600000")
        #expect(refusal(.delay) { $0.milliseconds = 600_001 } == "--ms: `600001` is not 1 to 600000")
        #expect(refusal(.dropEvent) { $0.sectors = 0...1 } == "--sectors means nothing for `drop-event` on the back side of a disk")
        #expect(
            refusal(.delay) {
                $0.operations = [.read]; $0.side = .front
            } != nil)
        #expect(refusal(.delay) { $0.toward = .back } == "--toward means nothing for `delay` on the back side of a disk")
        #expect(refusal(.drop, .network) { $0.toward = .back } == nil)
        #expect(refusal(.delay) { $0.count = 0 } == "--count: `0` is not 1 or more")
        #expect(refusal(.delay) { $0.every = 0 } == "--every: `0` is not 1 or more")
        for name in ["all", "a b", "a\tb", "ä", String(repeating: "x", count: 65)] {
            #expect(refusal(.delay) { $0.name = name }?.contains("is no name for a fault") == true, "\(name)")
        }
    }
}
