// causeway xen-run: a program of Xen's, unchanged, as a domain of this host.

import ArgumentParser
import CommandSupport
import FoundationEssentials
import Hypervisor
import LinuxSystem
import Loopback
import Toolstack
import XenTypes

struct XenRun: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "xen-run", abstract: "Runs a program of Xen's libraries as a domain of a loopback host.",
        usage: "causeway xen-run [--domain NUMBER] [--user USER] [--] COMMAND…",
        discussion: """
            COMMAND finds this host in the place of Xen: libxengnttab, libxenevtchn, libxenforeignmemory and libxencall are Causeway's, and
            libxenstore, libxenctrl and libxenlight stand on them. Without --domain it is domain 0.
            causeway host & causeway domain-create guest; causeway xen-run -- xenstore-ls
            Docs/xen-programs.md has QEMU's disks, vchan and consoles so.
            """)

    @OptionGroup var host: HostOptions
    @Option(help: "The domain that COMMAND is: its number or name.") var domain = "0"
    @Option(help: "The user that COMMAND becomes: a name or a number; for root.") var user: String?
    @Argument(parsing: .captureForPassthrough, help: "What to run.") var command: [String] = []

    func run() throws {
        try host.followParent()
        let words = Array(command.first == "--" ? command.dropFirst() : command[...])
        guard let program = words.first else { throw Failure.usage("xen-run: no command") }
        try Program.check(program)
        let directory = try host.directory()
        let number = try find(directory)
        let libraries = try XenLibraries.directory()
        let store = LoopbackHost.storePath(in: directory.path, domain: number)
        guard FileManager.default.fileExists(atPath: store) else { throw Failure("xen-run: \(store): \(absence(directory))") }
        var variables = ["CAUSEWAY_RUN_DIR": directory.path, "CAUSEWAY_DOMAIN": "\(number)", "XENSTORED_PATH": store]
        let others = ProcessInfo.processInfo.environment["LD_LIBRARY_PATH"] ?? ""
        variables["LD_LIBRARY_PATH"] = others.isEmpty ? libraries : "\(libraries):\(others)"
        if let user { try Accounts.become(try Accounts.user(user)) }
        let error = ChildProcess.replace(program: program, arguments: words, adding: variables)
        throw Failure.cannotRun(program, "\(error)", isThere: error != .noSuchFile)
    }

    /// Why a domain's socket is not there.
    private func absence(_ directory: RunDirectory) -> String {
        if !FileManager.default.fileExists(atPath: LoopbackHost.storePath(in: directory.path)) {
            return LoopbackHost.silence(.noSuchFile)
        }
        return "no such domain, or the path is longer than the 107 bytes that a socket's may have; a shorter --run-dir helps"
    }

    /// A number needs no store, which a domain's own user may not ask; a name does.
    private func find(_ directory: RunDirectory) throws -> DomainID {
        if let number = UInt16(domain) {
            guard DomainID(number).isOrdinary else { throw Failure.usage("--domain: there is no domain \(number)") }
            return DomainID(number)
        }
        let store = try directory.connectStore()
        defer { store.close() }
        return try Guests.find(domain, in: store)
    }
}
