// causeway fault: what a running device does wrong on purpose, for tests of whoever is at its other end.

import ArgumentParser
import CommandSupport
import DeviceControl
import DeviceFaults
import LinuxSystem

extension FaultSide: ExpressibleByArgument {}

struct Fault: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Has a running device go wrong on purpose, shows what is set, and undoes it.",
        discussion: """
            DEVICE is a disk's or an interface's name, as `causeway device list` has it. Without KIND its faults are listed. What goes wrong, where:

              disk, back        \(Self.kinds(.block, .back))
              disk, front       \(Self.kinds(.block, .front))
              interface, back   \(Self.kinds(.network, .back))
              interface, front  \(Self.kinds(.network, .front))

            A fault has a name, by which it is undone, and strikes at each occasion unless --every or --count say otherwise; corrupt-index,
            corrupt-id, stall and a disk's duplicate happen once. Its chance comes from its seed alone. Docs/break-it.md says what an honest peer
            makes of each.

              causeway fault vbd-1/51712 delay --ms 50 --every 4
              causeway fault vbd-1/51712 error --operation write --sectors 2048-4095 --count 1
              causeway fault vbd-1/51712 corrupt-index --side front
              causeway fault vif-1/0 drop --every 10 --seed 7 --toward front
              causeway fault vbd-1/51712 --clear all
            """)

    @OptionGroup var host: HostOptions
    @Argument(help: ArgumentHelp("The device.", valueName: "device")) var device: String
    @Argument(
        help: ArgumentHelp("What goes wrong.", valueName: "kind"), completion: .list(DeviceFault.allCases.map(\.rawValue)))
    var kind: String?
    @Option(help: "Which end does it; back unless said otherwise.") var side: FaultSide?
    @Option(help: "What it is called; else after its kind.") var name: String?
    @Option(help: ArgumentHelp("Strikes so often at most.", valueName: "times")) var count: UInt64?
    @Option(help: ArgumentHelp("Strikes by chance, at one of so many occasions.", valueName: "occasions")) var every: UInt64?
    @Option(help: "Where its chance comes from; else a number that is told.") var seed: UInt64?
    @Option(help: ArgumentHelp("How long it lasts: delay, reorder 10, slow 100, stall 1000.", valueName: "milliseconds"))
    var ms: UInt64?
    @Option(help: ArgumentHelp("Only these requests: read, write, flush, discard, with commas.", valueName: "operations"))
    var operation: String?
    @Option(help: ArgumentHelp("Only requests that touch these sectors of 512 bytes.", valueName: "first-last")) var sectors:
        String?
    @Option(help: "Only an interface's frames toward this side, and that way's ring.") var toward: FaultSide?
    @Option(help: ArgumentHelp("Undoes the fault of this name, or all.", valueName: "name")) var clear: String?

    private static func kinds(_ subject: FaultSubject, _ side: FaultSide) -> String {
        DeviceFault.known(subject, side).map(\.rawValue).joined(separator: ", ")
    }

    func validate() throws {
        guard clear == nil || kind == nil else {
            throw ValidationError("--clear undoes, and \(kind ?? "") is to be set: one of both")
        }
        guard kind == nil else {
            _ = try plan(seed: 0)
            return
        }
        let given = [
            ("--name", name != nil), ("--count", count != nil), ("--every", every != nil), ("--seed", seed != nil),
            ("--ms", ms != nil),
            ("--operation", operation != nil), ("--sectors", sectors != nil), ("--toward", toward != nil),
        ]
        if let option = given.first(where: \.1)?.0 { throw ValidationError("\(option) is of a fault that is set: which kind?") }
    }

    /// What is to be set, as far as it can be said without the device.
    private func plan(seed: UInt64) throws -> FaultPlan? {
        guard let kind else { return nil }
        let (subject, side) = (device.hasPrefix("vif") ? FaultSubject.network : .block, side ?? .back)
        do throws(FaultError) {
            guard let known = DeviceFault(rawValue: kind) else { throw .unknownKind(kind, subject, side) }
            var plan = FaultPlan(known)
            plan.side = side
            plan.seed = seed
            plan.count = count
            plan.milliseconds = ms
            plan.toward = toward
            if let name { plan.name = name }
            if let every { plan.every = every }
            if let operation { plan.operations = try FaultPlan.operations(operation) }
            if let sectors { plan.sectors = try FaultPlan.sectors(sectors) }
            // Whether there is such a device its process says.
            try plan.validate(for: subject)
            return plan
        } catch { throw ValidationError(error.description) }
    }

    func run() throws {
        let directory = try host.directory()
        // Short, for it may have to be typed again.
        let seed = seed ?? RandomNumber.short
        if let plan = try plan(seed: seed) {
            let name = try ask(.setFault(device: device, plan), plan.side, directory).first ?? ""
            printLine("\(name): set on the \(plan.side) side of \(device), seed \(seed)")
        } else if let clear {
            try undo(clear, directory)
        } else {
            var rows = [FaultRecord.titles]
            for (_, lines) in try everywhere(.faults(device: device), directory) { rows += lines.map(Self.words) }
            for line in Table.lines(rows) { printLine(line) }
        }
    }

    private func undo(_ name: String, _ directory: RunDirectory) throws {
        for (_, lines) in try everywhere(.clearFault(device: device, name: name), directory) {
            for words in lines.map(Self.words) where words.count > 4 {
                printLine("\(words[0]): set no more on the \(words[2]) side of \(device); it struck \(words[4]) times")
            }
        }
    }

    /// What the wanted side says, or each that says anything; the last refusal where none does.
    private func everywhere(_ request: ControlRequest, _ directory: RunDirectory) throws -> [(FaultSide, [String])] {
        var answers: [(FaultSide, [String])] = []
        var refusal: Failure?
        for side in side.map({ [$0] }) ?? [.front, .back] {
            do throws(Failure) { answers.append((side, try ask(request, side, directory))) } catch { refusal = error }
        }
        if answers.isEmpty, let refusal { throw refusal }
        return answers.reversed()
    }

    private func ask(_ request: ControlRequest, _ side: FaultSide, _ directory: RunDirectory) throws(Failure) -> [String] {
        try DeviceClient.ask(request, of: device, side == .back ? .back : .front, in: directory, for: "fault")
    }

    private static func words(_ line: String) -> [String] {
        line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
    }
}

/// Chance for people.
private enum RandomNumber {
    static var short: UInt64 { SystemRandom().next() % 1_000_000 }
}
