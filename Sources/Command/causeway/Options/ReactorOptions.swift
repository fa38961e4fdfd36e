// How many threads a backend serves its devices with, and an interface's frontend its queues.

import ArgumentParser
import FoundationEssentials

/// The reactors of a process.
struct ReactorOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Threads that serve disks, and as many for interfaces, these on both sides; 1 to 64. The queues of a device take turns on them.",
            discussion: "Default: one for each processor, 8 at most.", valueName: "count"))
    var reactors: Int?

    /// As many as were asked for, or fit this machine.
    var count: Int { reactors ?? Self.processors }

    /// Processors that this process may use, 8 at most: as many queues as Linux's netfront asks for, too.
    static var processors: Int { min(8, max(1, ProcessInfo.processInfo.activeProcessorCount)) }

    func validate() throws {
        if let reactors, !(1...64).contains(reactors) { throw ValidationError("--reactors: 1 to 64, not \(reactors)") }
    }

    /// The same, for a process that is started with it.
    var arguments: [String] { reactors.map { ["--reactors", "\($0)"] } ?? [] }
}
