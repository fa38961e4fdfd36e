import Confinement
import Foundation
import TestSupport
import Testing

/// What a confined process cannot do, by trying; and that the same attempts succeed where nothing is in force.
@Suite("Confinement", .serialized) struct ConfinementTests {
    /// What the probe said.
    struct Outcome {
        var report = ""
        var tried: [String: Int32] = [:]
        var errors = ""
        var status: Int32 = 0
    }

    static let all = [
        "open", "create", "memory", "bell", "ptrace", "vm_readv", "signal", "dumpable", "fork", "exec", "socket", "packets", "ring",
        "mount", "unshare", "root", "bpf",
    ]

    /// Runs the probe as a role, with a sleeping process of the same user's beside it.
    static func probe(_ role: String, user: String = "own", _ attempts: [String] = all) throws -> Outcome {
        let neighbour = Process()
        neighbour.executableURL = URL(fileURLWithPath: "/bin/sleep")
        neighbour.arguments = ["60"]
        try neighbour.run()
        defer { neighbour.terminate() }
        let process = Process()
        process.executableURL = Bundle.main.executableURL?.deletingLastPathComponent().appendingPathComponent("confined-probe")
        if !FileManager.default.isExecutableFile(atPath: process.executableURL?.path ?? "") {
            let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
            process.executableURL = URL(fileURLWithPath: own).deletingLastPathComponent().appendingPathComponent("confined-probe")
        }
        process.arguments = [role, user, "\(neighbour.processIdentifier)"] + attempts
        let (output, errors) = (Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        var outcome = Outcome()
        outcome.errors = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        outcome.status = process.terminationStatus
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 2, let number = Int32(words[1]) {
                outcome.tried[String(words[0])] = number
            } else {
                outcome.report = String(line)
            }
        }
        return outcome
    }

    @Test("the attempts are worth something: unconfined, they succeed")
    func unconfined() throws {
        let outcome = try Self.probe("none")
        for name in Self.all where name != "packets" && name != "mount" && name != "unshare" && name != "root" && name != "bpf" {
            #expect(outcome.tried[name] == 0, "\(name): \(outcome)")
        }
        #expect(outcome.errors.isEmpty)
    }

    @Test("E6, E17: a disk's frontend opens nothing, starts nothing, reaches nobody, and each attempt is told")
    func blockFrontend() throws {
        let outcome = try Self.probe("frontend")
        for name in Self.all { #expect(outcome.tried[name] == EPERM, "\(name): \(outcome)") }
        #expect(outcome.errors.contains("causeway: frontend: the system call ptrace is none of its own: refused\n"), "\(outcome)")
        #expect(outcome.errors.contains("the system call openat is none of its own"), "\(outcome)")
        #expect(!outcome.report.contains("NOT in force") || geteuid() != 0, "\(outcome.report)")
    }

    @Test("E17: a host starts nothing, becomes nobody, and looks into nobody")
    func host() throws {
        let outcome = try Self.probe("host")
        for name in ["ptrace", "vm_readv", "dumpable", "fork", "exec", "packets", "ring", "mount", "unshare", "root", "bpf"] {
            #expect(outcome.tried[name] == EPERM, "\(name): \(outcome)")
        }
    }

    @Test("E17: a backend looks into nobody, and has no sockets below IP", arguments: ["backend", "netfront", "vif-keeper"])
    func backend(role: String) throws {
        let outcome = try Self.probe(role)
        for name in ["ptrace", "vm_readv", "packets", "bpf"] { #expect(outcome.tried[name] == EPERM, "\(name): \(outcome)") }
    }

    @Test("E18: a frontend that root starts is a user that nobody else is", .enabled(if: geteuid() == 0))
    func ownUser() throws {
        let user = UserRange.standard.user(of: 4711)
        let outcome = try Self.probe("frontend", user: "\(user)", ["root"])
        #expect(outcome.report.hasPrefix("confined: user \(user), capabilities none, "), "\(outcome)")
        #expect(outcome.tried["root"] == EPERM)
    }

    @Test("E17: a call of another ABI ends the process", .enabled(if: geteuid() == 0))
    func otherABI() throws {
        #if arch(x86_64)
            #expect(try Self.probe("frontend", ["abi"]).status == SIGSYS)
        #endif
    }

    @Test("a range of users is FIRST-LAST, without root and without nobody")
    func ranges() {
        #expect(UserRange("100000-165535")?.user(of: 65537) == 100001)
        #expect("\(UserRange.standard)" == "1879048192-1883242495")
        for text in ["", "5", "0-5", "7-5", "1-4294967295", "a-b", "1-2-3", "-5"] { #expect(UserRange(text) == nil, "\(text)") }
    }
}
