// Where a host's sockets are, for every subcommand that talks to one.

import ArgumentParser
import FoundationEssentials
import Glibc
import LoopbackHypervisor
import XenStore

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
        if let path = givenDirectory ?? environment["CAUSEWAY_RUN_DIR"], !path.isEmpty { return try RunDirectory(path) }
        if geteuid() == 0 { return try RunDirectory("/run/causeway") }
        if let home = environment["XDG_RUNTIME_DIR"], !home.isEmpty { return try RunDirectory(home + "/causeway") }
        throw .usage("no run directory: give --run-dir, or set CAUSEWAY_RUN_DIR or XDG_RUNTIME_DIR")
    }

    /// Ties this process to the one that started it.
    func followParent() throws(Failure) {
        if let parent { try ChildProcess.followParent(parent) }
    }
}

/// A host's directory and the sockets in it.
struct RunDirectory: CustomStringConvertible {
    let path: String

    init(_ path: String) throws(Failure) {
        self.path = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
        // sun_path holds 108 bytes with its NUL; the longest name here is hypervisor.sock.
        guard self.path.utf8.count <= 107 - "/hypervisor.sock".utf8.count else {
            throw .usage("--run-dir: \(path): too long for a socket's path (at most 91 bytes)")
        }
    }

    var hypervisorSocket: String { path + "/hypervisor.sock" }
    var storeSocket: String { path + "/xenstored.sock" }
    var description: String { path }

    /// A privileged connection to the store.
    func connectStore() throws(Failure) -> StoreClient {
        do { return try StoreClient(socketPath: storeSocket) } catch {
            throw Failure("\(storeSocket): cannot reach a host there (\(error)); is `causeway host` running?")
        }
    }
}
