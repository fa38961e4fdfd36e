// Where a host's sockets are, for every subcommand that talks to one.

import ArgumentParser
import CommandSupport
import FoundationEssentials
import Glibc
import LinuxSystem

/// `--run-dir`, else `$CAUSEWAY_RUN_DIR`, else `/run/causeway` for root, else `$XDG_RUNTIME_DIR/causeway`.
struct HostOptions: ParsableArguments {
    @Option(
        name: .customLong("run-dir"),
        help: ArgumentHelp(
            "The host's directory: hypervisor.sock, xenstored.sock.",
            discussion: "Default: $CAUSEWAY_RUN_DIR, else /run/causeway for root, else $XDG_RUNTIME_DIR/causeway.",
            valueName: "dir"))
    var givenDirectory: String?

    /// The pid that this process must not outlive; given by `pair` to the processes that it starts.
    @Option(name: .customLong("exit-with"), help: .hidden) var parent: Int32?

    /// The directory to use.
    func directory() throws(Failure) -> RunDirectory {
        let environment = ProcessInfo.processInfo.environment
        if let path = givenDirectory { return try RunDirectory(path) }
        if let path = environment["CAUSEWAY_RUN_DIR"], !path.isEmpty { return try RunDirectory(path) }
        if geteuid() == 0 { return try RunDirectory("/run/causeway") }
        if let home = environment["XDG_RUNTIME_DIR"], !home.isEmpty { return try RunDirectory(home + "/causeway") }
        throw .usage("no run directory: give --run-dir, or set CAUSEWAY_RUN_DIR or XDG_RUNTIME_DIR")
    }

    /// Ties this process to the one that started it.
    func followParent() throws(Failure) {
        guard let parent else { return }
        let isThere: Bool
        do throws(Errno) { isThere = try ChildProcess.followParent(parent) } catch { throw Failure("prctl: \(error)") }
        if !isThere { throw .silent(1) }
    }
}
