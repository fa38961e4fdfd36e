// Claims: one has it, the second learns who, and the kernel gives it back.

import Foundation
import LinuxSystem
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1))) struct ClaimTests {
    @Test("a file is claimed by one; the second is told the first's process, and has it once that is gone")
    func files() throws {
        let directory = try TemporaryDirectory()
        let path = "\(directory.path)/x.lock"
        var first: FileClaim? = try FileClaim(path, time: .system)
        let clock = ManualClock()
        #expect(throws: ClaimError.taken(ClaimHolder(process: getpid()))) { _ = try FileClaim(path, patience: 1000, time: clock) }
        #expect(clock.sleeps.reduce(0, +) == 1000)
        withExtendedLifetime(first) {}
        first = nil
        _ = try FileClaim(path, time: .system)
        #expect(throws: ClaimError.system(.noSuchFile)) { _ = try FileClaim("\(directory.path)/none/x.lock", time: .system) }
    }

    @Test("a name is claimed by one in each network namespace; asking does not take it")
    func names() throws {
        let name = "test/\(getpid())/\(UInt64.random(in: 0 ... .max))"
        #expect(NamespaceClaim.holder(of: name) == nil)
        var first: NamespaceClaim? = try NamespaceClaim(name)
        for _ in 0..<300 { #expect(NamespaceClaim.holder(of: name) != nil) }
        #expect(NamespaceClaim.holder(of: name).map { $0.process == nil || $0.process == getpid() } == true)
        do throws(ClaimError) {
            _ = try NamespaceClaim(name)
            Issue.record("claimed twice")
        } catch {
            guard case .taken = error else { throw error }
        }
        withExtendedLifetime(first) {}
        first = nil
        #expect(NamespaceClaim.holder(of: name) == nil)
        _ = try NamespaceClaim(name)
    }

    @Test("a holder's command line ends no line of ours, and moves no cursor")
    func controlCharacters() throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", "read x\n# \u{1B}[2J"]
        let input = Pipe()
        process.standardInput = input
        try process.run()
        let holder = ClaimHolder(process: process.processIdentifier)
        let isTold = eventually { "\(holder)".contains("[2J") }
        #expect(isTold && "\(holder)".unicodeScalars.allSatisfy { $0.value >= 32 }, "\(holder)")
        try input.fileHandleForWriting.close()
        process.waitUntilExit()
    }

    @Test("a holder is named by its process and command, a long one cut")
    func description() {
        #expect(ClaimHolder(process: nil).description == "another process")
        #expect(ClaimHolder(process: getpid()).description.hasPrefix("process \(getpid()) ("))
        #expect(ClaimHolder(process: Int32.max).description == "process \(Int32.max)")
    }
}
