import Foundation
import Testing

/// What a program did.
struct Outcome {
    var status: Int32
    var output: String
    var errors: String
}

/// A program under test, its output in files so that no full pipe can stop it.
///
/// Not Foundation's `Process`: that one counts a program as running until everything that it started, and that outlives
/// it, has ended, so a background job of a shell that failed would hang the test for good.
final class RunningProcess {
    let pid: Int32
    private let scratch: Scratch
    private let name: String
    private var ended: Int32?

    /// Starts `arguments`; the first is found in the PATH.
    init(_ arguments: [String], environment: [String: String] = [:], in scratch: Scratch) throws {
        self.scratch = scratch
        name = UUID().uuidString
        let output = try scratch.makeFile("\(name).out")
        let errors = try scratch.makeFile("\(name).err")
        pid = try Self.spawn(
            [try Tools.find(arguments[0])] + arguments.dropFirst(),
            ProcessInfo.processInfo.environment.merging(environment) { $1 }.map { "\($0)=\($1)" },
            output.fileDescriptor, errors.fileDescriptor)
    }

    private static func spawn(_ arguments: [String], _ environment: [String], _ output: Int32, _ errors: Int32) throws -> Int32 {
        var files = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&files)
        defer { posix_spawn_file_actions_destroy(&files) }
        posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&files, output, 1)
        posix_spawn_file_actions_adddup2(&files, errors, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        var all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))
        var pid: Int32 = 0
        let words = arguments.map { strdup($0) } + [nil]
        let variables = environment.map { strdup($0) } + [nil]
        defer { for text in words + variables { free(text) } }
        let result = posix_spawn(&pid, arguments[0], &files, &attributes, words, variables)
        guard result == 0 else { throw TestFailure("\(arguments[0]): \(String(cString: strerror(result)))") }
        return pid
    }

    deinit { if isRunning { end() } }

    var output: String { scratch.read("\(name).out") }
    var errors: String { scratch.read("\(name).err") }

    var isRunning: Bool {
        if ended != nil { return false }
        var status: Int32 = 0
        guard waitpid(pid, &status, WNOHANG) == pid else { return true }
        ended = status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + status & 0x7F
        return false
    }

    /// Waits for the end; nil, having killed it and what it started in its group, after `seconds`.
    func wait(seconds: Double) -> Outcome? {
        let end = Date().addingTimeInterval(seconds)
        while isRunning {
            if Date() > end {
                self.end()
                return nil
            }
            usleep(2000)
        }
        return Outcome(status: ended ?? -1, output: output, errors: errors)
    }

    private func end() {
        kill(pid, SIGTERM)
        let end = Date().addingTimeInterval(3)
        while isRunning, Date() < end { usleep(2000) }
        guard isRunning else { return }
        kill(-pid, SIGKILL)
        while isRunning { usleep(2000) }
    }

    /// Runs to the end.
    static func run(
        _ arguments: [String], environment: [String: String] = [:], in scratch: Scratch, seconds: Double = 60
    ) throws -> Outcome {
        let running = try RunningProcess(arguments, environment: environment, in: scratch)
        guard let outcome = running.wait(seconds: seconds) else {
            throw TestFailure(
                "\(arguments.joined(separator: " ")): not done after \(seconds) s\n\(running.output.suffix(2000))\n\(running.errors.suffix(2000))"
            )
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
