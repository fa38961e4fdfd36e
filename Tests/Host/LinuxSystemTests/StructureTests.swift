// What cannot go wrong because it is not there: locks of our own making, shells, files of configuration. Seen in the
// sources themselves, and in what a program is given that we start.

import Foundation
import LinuxSystem
import Testing
import TestSupport

@Suite struct StructureTests {
    /// The files below Sources that have a line of code, not of comment, which an extended regular expression fits.
    private func files(with pattern: String) throws -> [String] {
        let root = Checkout.root + "/Sources/"
        let scratch = try TemporaryDirectory()
        let output = try Descriptor.open(scratch.path + "/out", O_RDWR | O_CREAT, mode: 0o600)
        let words = ["grep", "-rnE", "--include=*.swift", "--include=*.c", "--include=*.h", "-e", pattern, root]
        let child = try ChildProcess.spawn(words, ownGroup: true, output: output, isOurs: false, time: SystemTime())
        guard case .exited(let status) = child.wait(), status < 2 else { throw TimedOut("grep") }
        let lines = try String(contentsOfFile: scratch.path + "/out", encoding: .utf8).split(separator: "\n")
        let found = lines.compactMap { line -> String? in
            let parts = line.split(separator: ":", maxSplits: 2)
            let code = parts.count == 3 ? parts[2].drop { $0 == " " } : ""
            let isComment = code.hasPrefix("//") || code.hasPrefix("*") || code.hasPrefix("/*")
            return isComment ? nil : String(parts[0].dropFirst(root.count))
        }
        return Set(found).sorted()
    }

    /// A lock is the system's or the library's: none is a word of our own that somebody waits for, whose order with
    /// what it guards would be ours to get right.
    @Test func CL6_locksAreTheLibrarys() throws {
        let made = try files(with: "pthread_(mutex|rwlock|spin)|atomic_flag|os_unfair_lock|NSLock")
        #expect(made == ["Host/LinuxSystem/ContendedLock.swift", "Host/LinuxSystem/Monitor.swift"])
        // One that is taken without a closure, to be let go by hand on each way out, is none.
        #expect(try files(with: "\\.(lock|unlock)\\(\\)|withLockUnchecked").isEmpty)
    }

    /// Of programs that are started, one is a shell's: what the user gave as `pair --backend-command`, who may type it
    /// into a shell as well. A guest's words are in none.
    @Test func TS10_noShellSeesAGuestsWords() throws {
        #expect(try files(with: "popen\\(|\"sh\"|/bin/sh|\"bash\"") == ["Command/causeway/Pairing/PairSession.swift"])
        #expect(try files(with: "posix_spawn|execv").allSatisfy { $0.hasPrefix("Host/") })
        // What is started has its words as they are.
        let scratch = try TemporaryDirectory()
        let words = ["$(touch \(scratch.path)/x)", "`id`; exit 3", "a\nb", "* ~ | > y", "--", "'\"\\"]
        let output = try Descriptor.open(scratch.path + "/out", O_RDWR | O_CREAT, mode: 0o600)
        let child = try ChildProcess.spawn(
            ["printf", "%s\\037"] + words, ownGroup: true, output: output, isOurs: false, time: SystemTime())
        #expect(child.wait() == .exited(0))
        let said = try String(contentsOfFile: scratch.path + "/out", encoding: .utf8)
        #expect(said == words.map { $0 + "\u{1F}" }.joined())
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path) == ["out"])
    }

    /// What a program here does is in its arguments, in its environment and in the store: there is no file of
    /// configuration that somebody else might have written.
    @Test func TS12_noConfigurationIsReadFromFiles() throws {
        // Where xl's scripts lie is told to others, and not opened.
        #expect(try files(with: "\"/etc|/\\.config|XDG_CONFIG|\"/usr/share") == ["Xen/Toolstack/DeviceDirectories.swift"])
        #expect(try files(with: "PropertyListDecoder|YAML|TOML|\\.(ini|conf|cfg)\"").isEmpty)
    }
}
