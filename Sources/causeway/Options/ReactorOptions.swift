// How many threads a backend serves its devices with.

import ArgumentParser

/// The backend's reactors.
struct ReactorOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Threads of the backend that serve disks, and as many that serve interfaces, 1 to 64; the queues of a device take turns on them.",
            valueName: "count"))
    var reactors = 1

    func validate() throws {
        if !(1...64).contains(reactors) { throw ValidationError("--reactors: 1 to 64, not \(reactors)") }
    }

    /// The same, for a backend that is started with it.
    var arguments: [String] { reactors == 1 ? [] : ["--reactors", "\(reactors)"] }
}
