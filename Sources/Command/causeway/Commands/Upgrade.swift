// causeway upgrade: has a running export or backend become this program, while its drivers wait a moment.

import ArgumentParser
import CommandSupport
import FoundationEssentials
import Glibc
import LinuxSystem

struct Upgrade: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Has a running export or backend go on as this build of causeway; its drivers notice a pause at most.",
        discussion: """
            With --run-dir, or within `pair`: every backend of that host; it has to keep journals (`pair --journal`, `backend --journal`). Else an export: \
            prints how long the front ends were kept waiting. The export keeps its process, its sockets and its COMMAND. What cannot go on \
            with it is refused, and the export goes on as it was. Within COMMAND neither option is needed.
            """)

    /// Names the export to COMMAND.
    static let variable = "CAUSEWAY_EXPORT"

    @Option(help: ArgumentHelp("The export's --socket-dir.", valueName: "dir")) var socketDir: String?
    @Option(help: ArgumentHelp("The export's --socket.", valueName: "path")) var socket: String?
    @Option(help: ArgumentHelp("The directory of a host whose backends are to be upgraded.", valueName: "dir")) var runDir: String?
    @Option(help: ArgumentHelp("Another program that it is to become.", valueName: "path")) var program: String?

    func validate() throws {
        guard [socketDir, socket, runDir].compactMap({ $0 }).count <= 1 else {
            throw ValidationError("--socket, --socket-dir and --run-dir: one of them")
        }
    }

    func run() throws {
        let program = try absolute(try program ?? Executable.path())
        if let directory = try backends() { return try upgradeBackends(in: directory, program) }
        let path = try place()
        let export: Descriptor
        do throws(Errno) { export = try StreamSocket.connect(path: path) } catch {
            throw Failure(
                "upgrade: \(path): \([ENOENT, ECONNREFUSED].contains(error.rawValue) ? "no export is there" : "\(error)")")
        }
        try report(try ask(export, path, program))
    }

    /// Whose backends are meant; nil: an export is.
    private func backends() throws(Failure) -> RunDirectory? {
        if let runDir { return try RunDirectory(runDir) }
        let environment = ProcessInfo.processInfo.environment
        guard socketDir == nil, socket == nil, environment[Self.variable] == nil, let path = environment["CAUSEWAY_RUN_DIR"],
            !path.isEmpty
        else { return nil }
        return try RunDirectory(path)
    }

    private func upgradeBackends(in directory: RunDirectory, _ program: String) throws(Failure) {
        let sockets = BackendUpgrade.sockets(in: directory.path)
        guard !sockets.isEmpty else {
            throw Failure("upgrade: \(directory): no backend answers there; is one running, and as this user?")
        }
        for path in sockets {
            let backend: Descriptor
            do throws(Errno) { backend = try StreamSocket.connect(path: path) } catch {
                throw Failure("upgrade: \(path): \(error)")
            }
            try report(try ask(backend, path, program))
        }
    }

    private func report(_ reply: UpgradeReply) throws(Failure) {
        switch reply {
        case .refused(let reason): throw Failure("upgrade: refused: \(reason)")
        case .done(let nanoseconds, let version):
            printLine("upgraded to causeway \(version): longest pause \(inMilliseconds(nanoseconds))")
        }
    }

    private func place() throws(Failure) -> String {
        if let socketDir { return ExportUpgrade.path(in: try RunDirectory(socketDir).path) }
        if let socket { return ExportUpgrade.path(beside: socket) }
        guard let named = ProcessInfo.processInfo.environment[Self.variable] else {
            throw .usage("upgrade: what? Give an export's --socket-dir or --socket, or the --run-dir of a host")
        }
        return named
    }

    private func absolute(_ program: String) throws(Failure) -> String {
        do throws(Errno) { return try FileSystem.resolved(program) } catch { throw Failure("upgrade: \(program): \(error)") }
    }

    private func ask(_ export: Descriptor, _ path: String, _ program: String) throws(Failure) -> UpgradeReply {
        do throws(Errno) {
            let line = Array("\(program)\n".utf8)
            guard try StreamSocket.send(export.rawValue, line[...], wait: true) == line.count else { throw Errno(EPIPE) }
            var said = ""
            while !said.hasSuffix("\n") {
                let more = try StreamSocket.receive(export.rawValue, capacity: 4096, wait: true)
                if more.isEmpty { throw Errno(ECONNRESET) }
                said += String(decoding: more, as: UTF8.self)
            }
            guard let reply = UpgradeReply(String(said.dropLast())) else { throw Errno(EPROTO) }
            return reply
        } catch { throw Failure("upgrade: \(path): it has ended meanwhile (\(error)); see what it printed") }
    }
}
