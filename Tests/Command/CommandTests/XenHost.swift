import Foundation
import Testing
import TestSupport

/// A loopback host with domains on it, and programs of Xen's libraries as those domains. Stopped when released.
final class XenHost {
    let scratch: Scratch
    let runDirectory: String
    private let host: RunningProcess

    /// - Parameter domains: how many guests there are; they are numbered from 1 on.
    init(domains: Int = 1, in scratch: Scratch) throws {
        self.scratch = scratch
        runDirectory = "\(scratch.path)/run"
        host = try RunningProcess([Tools.causeway, "host", "--run-dir", runDirectory], in: scratch)
        let directory = runDirectory
        guard eventually(20_000, { FileManager.default.fileExists(atPath: "\(directory)/xenstored.sock") }), host.isRunning else {
            throw TestFailure("the host did not start: \(host.errors)")
        }
        for number in 0..<domains {
            let made = try run(["domain-create"])
            guard made.status == 0, made.output == "\(number + 1)\n" else { throw TestFailure("domain-create: \(made)") }
        }
    }

    deinit { _ = stop() }

    /// Ends the host as a service manager would.
    @discardableResult func stop(_ signal: Int32 = SIGTERM) -> Outcome? {
        guard host.isRunning else { return nil }
        kill(host.pid, signal)
        return host.wait(seconds: 20)
    }

    /// A subcommand on this host.
    func run(_ arguments: [String], seconds: Double = 60) throws -> Outcome {
        try RunningProcess.run(
            [Tools.causeway] + arguments, environment: ["CAUSEWAY_RUN_DIR": runDirectory], in: scratch, seconds: seconds)
    }

    /// A subcommand or a program that goes on beside the test.
    func start(_ arguments: [String], environment: [String: String] = [:]) throws -> RunningProcess {
        try RunningProcess(
            arguments, environment: environment.merging(["CAUSEWAY_RUN_DIR": runDirectory]) { $1 }, in: scratch)
    }

    /// A program as a domain.
    func xenRun(_ arguments: [String], domain: Int = 0, seconds: Double = 60) throws -> Outcome {
        try run(["xen-run", "--domain", "\(domain)", "--"] + arguments, seconds: seconds)
    }

    func startXen(_ arguments: [String], domain: Int = 0, environment: [String: String] = [:]) throws -> RunningProcess {
        try start([Tools.causeway, "xen-run", "--domain", "\(domain)", "--"] + arguments, environment: environment)
    }

    /// A row of `causeway status`: the numbers under their titles.
    func usage(of row: String = "host") throws -> [String: Int] {
        let lines = try run(["status"]).output.split(separator: "\n").map { $0.split(separator: " ").map(String.init) }
        guard let titles = lines.first, let values = lines.first(where: { $0.first == row }) else { throw TestFailure("status") }
        return Dictionary(zip(titles.dropFirst(), values.dropFirst().map { Int($0) ?? -1 })) { $1 }
    }

    /// The same, for a message.
    var usageText: String { (try? usage()).map { "\($0)" } ?? "" }

    /// Waits until nothing is left of what programs had of the hypervisor: dead ones are cleared away in slices.
    func settles() throws -> Bool {
        try eventually(5000) {
            let usage = try usage()
            return ["grants", "mappings", "ports", "runs", "pages", "deferred", "dying"].allSatisfy { usage[$0] == 0 }
        }
    }

    /// Builds C sources of Tests/Exports/LibxenCompat against Debian's libraries, whose names the launcher leads
    /// elsewhere.
    func compile(_ sources: [String], options: [String] = [], libraries: [String], name: String = "program") throws -> String {
        let folder = "\(Checkout.root)/Tests/Exports/LibxenCompat"
        let program = "\(scratch.path)/\(name)"
        let outcome = try RunningProcess.run(
            ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-g", "-o", program] + options
                + sources.map { "\(folder)/\($0)" } + libraries.map { "-l\($0)" } + ["-pthread"], in: scratch)
        guard outcome.status == 0 else { throw TestFailure("cc: \(outcome.errors)") }
        return program
    }
}
