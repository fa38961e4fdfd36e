import Foundation
import Testing
import TestSupport

/// `causeway pair` without a command: runs until it is stopped. Stopped, and all it started gone, when released.
final class PairUnderTest {
    let running: RunningProcess
    let scratch: Scratch
    let runDirectory: String

    init(disks: [String], vifs: [String] = [], options: [String] = [], in scratch: Scratch, seconds: Double = 30) throws {
        self.scratch = scratch
        runDirectory = "\(scratch.path)/run"
        let arguments =
            [Tools.causeway, "pair", "--run-dir", runDirectory] + options + disks.flatMap { ["--disk", $0] }
            + vifs.flatMap { ["--vif", $0] }
        running = try RunningProcess(arguments, in: scratch)
        let running = running
        let isUp = eventually(Int64(seconds * 1000)) {
            running.output.split(separator: "\n").count == disks.count + vifs.count || !running.isRunning
        }
        guard isUp, running.isRunning else {
            throw TestFailure("the pair did not come up: \(running.output) \(running.errors)")
        }
    }

    deinit { if running.isRunning { _ = stop() } }

    /// Ends it as a service manager would.
    func stop() -> Outcome? {
        kill(running.pid, SIGTERM)
        return running.wait(seconds: 20)
    }

    func uri(_ vdev: String) -> String { "nbd+unix:///?socket=\(runDirectory)/\(vdev).sock" }

    var environment: [String: String] {
        ["CAUSEWAY_RUN_DIR": runDirectory, "XENSTORED_PATH": "\(runDirectory)/xenstored.sock"]
    }

    /// Runs a tool beside the pair.
    func run(_ arguments: [String], seconds: Double = 60) throws -> Outcome {
        try RunningProcess.run(arguments, environment: environment, in: scratch, seconds: seconds)
    }

    /// The processes of a role that this pair started: its children whose command line begins so.
    func processes(role: String) -> [Int32] {
        ProcessTable.children(of: running.pid, commandPrefix: "causeway \(role)")
    }
}

/// What /proc knows.
enum ProcessTable {
    static func children(of parent: Int32, commandPrefix: String) -> [Int32] {
        pids().filter { pid in
            guard let words = commandLine(pid), field(4, of: pid) == parent else { return false }
            let name = (words.first ?? "").split(separator: "/").last.map(String.init) ?? ""
            return ([name] + words.dropFirst()).joined(separator: " ").hasPrefix(commandPrefix)
        }
    }

    /// Every process whose command line contains `text`.
    static func mentioning(_ text: String) -> [Int32] {
        pids().filter { pid in pid != getpid() && commandLine(pid)?.contains { $0.contains(text) } == true }
    }

    private static func pids() -> [Int32] {
        ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { Int32($0) }
    }

    private static func commandLine(_ pid: Int32) -> [String]? {
        guard let data = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline"), !data.isEmpty else { return nil }
        return String(decoding: data, as: UTF8.self).split(separator: "\0").map(String.init)
    }

    /// A number in /proc/PID/stat, counted from 1 as proc(5) does.
    private static func field(_ number: Int, of pid: Int32) -> Int32? {
        guard let data = FileManager.default.contents(atPath: "/proc/\(pid)/stat") else { return nil }
        let text = String(decoding: data, as: UTF8.self)
        guard let end = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: end)...].split(separator: " ")
        return fields.count > number - 3 ? Int32(fields[number - 3]) : nil
    }
}

/// A loop device on an image, detached when released.
final class LoopDevice {
    let path: String
    private let scratch: Scratch

    init(on image: String, in scratch: Scratch) throws {
        self.scratch = scratch
        let outcome = try RunningProcess.run(["losetup", "--find", "--show", image], in: scratch)
        guard outcome.status == 0 else { throw TestFailure("losetup: \(outcome.errors)") }
        path = outcome.output.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    deinit { _ = try? RunningProcess.run(["losetup", "-d", path], in: scratch) }
}
