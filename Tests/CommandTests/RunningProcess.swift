import Foundation
import Testing

/// What a program did.
struct Outcome {
    var status: Int32
    var output: String
    var errors: String
}

/// A program under test, its output in files so that no full pipe can stop it.
final class RunningProcess {
    let process = Process()
    private let scratch: Scratch
    private let name: String

    /// Starts `arguments`; the first is found in the PATH.
    init(_ arguments: [String], environment: [String: String] = [:], in scratch: Scratch) throws {
        self.scratch = scratch
        name = UUID().uuidString
        process.executableURL = URL(fileURLWithPath: try Tools.find(arguments[0]))
        process.arguments = Array(arguments.dropFirst())
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = try scratch.makeFile("\(name).out")
        process.standardError = try scratch.makeFile("\(name).err")
        try process.run()
    }

    var output: String { scratch.read("\(name).out") }
    var errors: String { scratch.read("\(name).err") }
    var pid: Int32 { process.processIdentifier }

    /// Waits for the end; nil, having killed it, after `seconds`.
    func wait(seconds: Double) -> Outcome? {
        let end = Date().addingTimeInterval(seconds)
        while process.isRunning {
            if Date() > end {
                kill(pid, SIGTERM)
                usleep(500_000)
                if process.isRunning { kill(pid, SIGKILL) }
                process.waitUntilExit()
                return nil
            }
            usleep(5000)
        }
        let status = process.terminationReason == .exit ? process.terminationStatus : 128 + process.terminationStatus
        return Outcome(status: status, output: output, errors: errors)
    }

    /// Runs to the end.
    static func run(
        _ arguments: [String], environment: [String: String] = [:], in scratch: Scratch, seconds: Double = 60
    ) throws -> Outcome {
        let running = try RunningProcess(arguments, environment: environment, in: scratch)
        guard let outcome = running.wait(seconds: seconds) else {
            throw TestFailure(
                "\(arguments.joined(separator: " ")): not done after \(seconds) s\n\(running.errors.suffix(2000))")
        }
        return outcome
    }
}

/// A failure of the test's own means.
struct TestFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// A private directory, gone with the test.
final class Scratch {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("cw-\(UUID().uuidString.prefix(8))").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func makeFile(_ name: String) throws -> FileHandle {
        _ = FileManager.default.createFile(atPath: "\(path)/\(name)", contents: nil)
        return try FileHandle(forWritingTo: URL(fileURLWithPath: "\(path)/\(name)"))
    }

    func read(_ name: String) -> String {
        String(decoding: FileManager.default.contents(atPath: "\(path)/\(name)") ?? Data(), as: UTF8.self)
    }

    /// A sparse file; its path.
    func makeImage(_ name: String = "disk.img", megabytes: Int) throws -> String {
        let file = try makeFile(name)
        try file.truncate(atOffset: UInt64(megabytes) << 20)
        try file.close()
        return "\(path)/\(name)"
    }
}

/// Programs that the tests use.
enum Tools {
    /// The directory that holds what was built: the test bundle lies beside the command and the plugin.
    static let buildDirectory: String = {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return URL(fileURLWithPath: own).deletingLastPathComponent().path
    }()

    static var causeway: String { "\(buildDirectory)/causeway" }

    static func find(_ name: String) throws -> String {
        if name.hasPrefix("/") { return name }
        let path = (ProcessInfo.processInfo.environment["PATH"] ?? "") + ":/usr/sbin:/sbin"
        for directory in path.split(separator: ":")
        where FileManager.default.isExecutableFile(atPath: "\(directory)/\(name)") {
            return "\(directory)/\(name)"
        }
        throw TestFailure("\(name) is not installed; run make setup")
    }

    static var isRoot: Bool { geteuid() == 0 }
    static var hasLoopDevices: Bool { isRoot && FileManager.default.fileExists(atPath: "/dev/loop-control") }
}

/// Waits for `condition`, at most `seconds`.
func eventually(seconds: Double = 10, _ condition: () throws -> Bool) rethrows -> Bool {
    let end = Date().addingTimeInterval(seconds)
    while true {
        if try condition() { return true }
        if Date() > end { return false }
        usleep(20_000)
    }
}
