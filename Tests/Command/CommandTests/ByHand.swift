import Foundation
import TestSupport
import Testing

/// A host, and what a test starts on it by hand; all end with it, the last first.
final class ByHand {
    let scratch: Scratch
    let directory: String
    private var processes: [RunningProcess] = []

    /// Starts a host, and waits until it is there.
    init(in scratch: Scratch) throws {
        self.scratch = scratch
        directory = "\(scratch.path)/run"
        _ = try start("host")
        let socket = "\(directory)/xenstored.sock"
        try #require(eventually(10_000) { FileManager.default.fileExists(atPath: socket) })
    }

    deinit { _ = end() }

    private var environment: [String: String] {
        ["CAUSEWAY_RUN_DIR": directory, "XENSTORED_PATH": "\(directory)/xenstored.sock"]
    }

    /// Starts `causeway` with `words`.
    func start(_ words: String...) throws -> RunningProcess {
        let process = try RunningProcess([Tools.causeway] + words, environment: environment, in: scratch)
        processes.append(process)
        return process
    }

    /// Runs `causeway` with `words` to its end.
    func run(_ words: String...) throws -> Outcome { try run(program: [Tools.causeway] + words) }

    /// Runs another program to its end.
    func run(program words: [String]) throws -> Outcome {
        try RunningProcess.run(words, environment: environment, in: scratch, seconds: 30)
    }

    /// Asks those that still run to end; what each said and how it ended.
    func end() -> [Outcome?] {
        processes.reversed().filter(\.isRunning).map { process in
            kill(process.pid, SIGTERM)
            return process.wait(seconds: 10)
        }
    }
}
